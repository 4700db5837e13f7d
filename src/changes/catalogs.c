/*
 * catalogs.c
 *		What a transaction's changes of system catalogs mean to views.
 *
 * The server's own statistics of the transaction say how many rows of which
 * catalog it changed.  Mostly that is enough.  Where it decides whether the
 * contents of all views are in doubt, the rows are looked at, before commit:
 * objects that are new change nothing for what was there before, whatever is
 * done with them until then.
 *
 * Locks: AccessShareLock on such a catalog, which the transaction has changed
 * itself.  Cost: one scan of each of these, which are small, and only where a
 * transaction changed it.  Raises errors only as any look at a catalog does.
 */
#include "pgopt.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_cast.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_ts_config_map.h"
#include "catalog/pg_ts_dict.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "changes_internal.h"
#include "compat.h"
#include "core.h"

/* Do expressions of views that stay as they are yield what rows of this catalog say? */
static bool
holds_contents(Oid catalog)
{
	switch (catalog)
	{
		case EnumRelationId:
		case CastRelationId:
		case OperatorRelationId:
		case AccessMethodOperatorRelationId:
		case AccessMethodProcedureRelationId:
		case AggregateRelationId:
		case CollationRelationId:
		case TSConfigRelationId:
		case TSConfigMapRelationId:
		case TSDictionaryRelationId:
			return true;
		default:
			return false;
	}
}

/* May a function find a new object in this catalog by its name, instead of another one? */
static bool
holds_names(Oid catalog)
{
	switch (catalog)
	{
		case CastRelationId:
		case OperatorRelationId:
		case CollationRelationId:
		case TSConfigRelationId:
		case TSDictionaryRelationId:
			return true;
		default:
			return false;
	}
}

/* What became of a row in the transaction in progress. */
typedef enum RowFate
{
	ROW_UNTOUCHED, /* or nobody's, or gone in the transaction that made it */
	ROW_MADE,      /* inserted, or the new version of an updated one */
	ROW_REPLACED,  /* there before, and updated */
	ROW_DELETED    /* there before */
} RowFate;

/* The caller holds a lock on the row's page, or others could be about to lock the row. */
static RowFate
row_fate(HeapTuple tuple)
{
	HeapTupleHeader header = tuple->t_data;
	bool made = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(header));
	bool ended = (header->t_infomask & HEAP_XMAX_INVALID) == 0 &&
				 !HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) &&
				 TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header));

	if (made)
		return ended ? ROW_UNTOUCHED : ROW_MADE;
	if (!ended)
		return ROW_UNTOUCHED;
	return ItemPointerEquals(&header->t_ctid, &tuple->t_self) ? ROW_DELETED : ROW_REPLACED;
}

/* Was this text search configuration made in the transaction in progress? */
static bool
is_new_config(Oid config)
{
	HeapTuple tuple = SearchSysCache1(TSCONFIGOID, ObjectIdGetDatum(config));
	bool result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Does this dictionary find another one by name, as a thesaurus does? */
static bool
names_dictionary(HeapTuple tuple, TupleDesc tupdesc)
{
	bool isnull;
	Datum options = heap_getattr(tuple, Anum_pg_ts_dict_dictinitoption, tupdesc, &isnull);

	if (isnull)
		return false;
	/* what a row that is long gone had stored elsewhere may be gone too */
	return VARATT_IS_EXTERNAL(DatumGetPointer(options)) ||
		   strstr(TextDatumGetCString(options), "dictionary") != NULL;
}

/*
 * May the rows of a catalog that the transaction changed make expressions
 * yield something else?  All versions of rows are looked at, since those that
 * are gone for the transaction tell most.
 */
static bool
rows_change_contents(Oid catalog, bool drops_matter)
{
	Relation rel = table_open(catalog, AccessShareLock);
	TableScanDesc scan = table_beginscan(rel, SnapshotAny, 0, NULL);
	Buffer *buffer = &((HeapScanDesc) scan)->rs_cbuf;
	bool new_dictionary = false;
	bool by_name = false;
	bool result = false;
	HeapTuple tuple;

	while (!result && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		RowFate fate;

		LockBuffer(*buffer, BUFFER_LOCK_SHARE);
		fate = row_fate(tuple);
		LockBuffer(*buffer, BUFFER_LOCK_UNLOCK);

		if (fate == ROW_REPLACED || (fate == ROW_DELETED && drops_matter))
			result = true;
		else if (fate == ROW_MADE && catalog == TSConfigMapRelationId)
			result = !is_new_config(((Form_pg_ts_config_map) GETSTRUCT(tuple))->mapcfg);
		else if (catalog == TSDictionaryRelationId)
		{
			new_dictionary = new_dictionary || fate == ROW_MADE;
			by_name = by_name ||
					  (fate == ROW_UNTOUCHED && names_dictionary(tuple, RelationGetDescr(rel)));
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return result || (new_dictionary && by_name);
}

/* Does pgopt's extension go away in the transaction?  With it goes all that is known of views. */
static bool
drops_pgopt(const PgStat_TableXactStatus *changes)
{
	for (; changes != NULL; changes = changes->next)
		if (compat_tabstat_relid(changes->parent) == ExtensionRelationId &&
			changes->tuples_deleted > 0)
			return !OidIsValid(pgopt_extension_oid());
	return false;
}

/*
 * Is it certain that the transaction, with these changes, leaves alone what
 * the expressions of views yield?  Called before it commits.
 */
bool
catalogs_keep_contents(const PgStat_TableXactStatus *changes)
{
	for (const PgStat_TableXactStatus *trans = changes; trans != NULL; trans = trans->next)
	{
		Oid catalog = compat_tabstat_relid(trans->parent);

		if (!holds_contents(catalog) || !changed_something(trans))
			continue;
		CommandCounterIncrement(); /* to see what the last statement made */
		if (trans->truncdropped || rows_change_contents(catalog, !drops_pgopt(changes)))
			return false;
	}
	return true;
}

/*
 * What a change of one catalog means.  What views read is defined in few
 * catalogs.  Those that every CREATE TABLE fills, temporary tables included,
 * count only where a table, type or owner was altered.
 */
CatalogMeaning
catalog_meaning(const PgStat_TableXactStatus *trans, bool altered, bool contents_kept)
{
	Oid catalog = compat_tabstat_relid(trans->parent);

	switch (catalog)
	{
		case InheritsRelationId:
		case RewriteRelationId:
		case PolicyRelationId:
			return CATALOG_DEFINITIONS;
		case ProcedureRelationId:
			return CATALOG_FUNCTIONS; /* a new one may be what an old one calls by name from now on */
		case RelationRelationId:
		case AttributeRelationId:
		case AttrDefaultRelationId:
			/* so do CREATE TABLE, TRUNCATE and refreshes, without a meaning for what views read */
			return altered ? CATALOG_DEFINITIONS : CATALOG_NOTHING;
		case AuthIdRelationId:
		case AuthMemRelationId:
			return CATALOG_ROLES;
		case ExtensionRelationId:
			return CATALOG_EXTENSION;
		case DatabaseRelationId:
			return CATALOG_DATABASE;
		default:
			if (!holds_contents(catalog))
				return CATALOG_NOTHING;
			if (!contents_kept)
				return CATALOG_CONTENTS;
			return holds_names(catalog) ? CATALOG_FUNCTIONS : CATALOG_NOTHING;
	}
}
