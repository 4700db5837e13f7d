/*
 * sequence.c
 *		The value that a sequence has reached, for pgopt_sequences and the
 *		health checks.
 *
 * pg_sequence_last_value() locks each sequence against ALTER SEQUENCE until
 * the transaction ends: a look at many of them would hold others up, and fill
 * the server's table of locks.  This takes the same lock (a lesser one would
 * let the file be replaced meanwhile), only if nobody has to be waited for,
 * and gives it back at once.  Pages are read through a ring of buffers of its
 * own, and without relation cache entries.  Cost: one page a sequence.
 */
#include "pgopt.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "monitor.h"

PG_FUNCTION_INFO_V1(pgopt_sequence_state);

bool
sequence_read(Form_pg_class class, BufferAccessStrategy strategy, int64 *last_value,
			  bool *is_called)
{
	CompatFiles files =
		compat_files(OidIsValid(class->reltablespace) ? class->reltablespace : MyDatabaseTableSpace,
					 MyDatabaseId,
					 class->relfilenode);
	SMgrRelation smgr = smgropen(files, compat_no_backend);
	Buffer buffer;
	Page page;
	ItemId item;
	bool found = false;

	if (!smgrexists(smgr, MAIN_FORKNUM) || smgrnblocks(smgr, MAIN_FORKNUM) == 0)
		return false;
	buffer = ReadBufferWithoutRelcache(files,
									   MAIN_FORKNUM,
									   0,
									   RBM_NORMAL,
									   strategy,
									   class->relpersistence == RELPERSISTENCE_PERMANENT);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	if (PageGetMaxOffsetNumber(page) >= FirstOffsetNumber &&
		ItemIdIsNormal(item = PageGetItemId(page, FirstOffsetNumber)))
	{
		HeapTupleHeader tuple = (HeapTupleHeader) PageGetItem(page, item);
		Form_pg_sequence_data data = (Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff);

		*last_value = data->last_value;
		*is_called = data->is_called;
		found = true;
	}
	UnlockReleaseBuffer(buffer);
	return found;
}

/* Why the value of this relation cannot be read by the present user, or NULL. */
static const char *
unreadable(Form_pg_class class)
{
	if (class->relkind != RELKIND_SEQUENCE)
		return "not a sequence";
	if (class->relpersistence == RELPERSISTENCE_TEMP)
		return "temporary";
	if (class->relpersistence == RELPERSISTENCE_UNLOGGED && RecoveryInProgress())
		return "unlogged, and this is a standby";
	if (pg_class_aclcheck(class->oid, GetUserId(), ACL_SELECT | ACL_USAGE) != ACLCHECK_OK)
		return psprintf("not readable: GRANT SELECT ON SEQUENCE %s TO %s",
						quote_qualified_identifier(get_namespace_name(class->relnamespace),
												   NameStr(class->relname)),
						quote_identifier(GetUserNameFromId(GetUserId(), false)));
	return NULL;
}

/* The last value, and why there is none. */
Datum
pgopt_sequence_state(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	BufferAccessStrategy strategy = fcinfo->flinfo->fn_extra;
	const char *note = "locked by another session";
	Datum values[2] = {0};
	bool nulls[2] = {true, true};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 2)
		elog(ERROR, "sequence_state: wrong row type");
	if (strategy == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		strategy = GetAccessStrategy(BAS_BULKREAD);
		fcinfo->flinfo->fn_extra = strategy;
		MemoryContextSwitchTo(caller);
	}

	if (ConditionalLockRelationOid(relid, RowExclusiveLock))
	{
		HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
		int64 last_value;
		bool is_called;

		note = "gone";
		if (HeapTupleIsValid(tuple))
		{
			Form_pg_class class = (Form_pg_class) GETSTRUCT(tuple);

			note = unreadable(class);
			if (note == NULL && !sequence_read(class, strategy, &last_value, &is_called))
				note = "damaged: its page has no row";
			if (note == NULL && !is_called)
				note = "never used";
			if (note == NULL)
			{
				values[0] = Int64GetDatum(last_value);
				nulls[0] = false;
			}
			ReleaseSysCache(tuple);
		}
		UnlockRelationOid(relid, RowExclusiveLock);
	}
	if (note != NULL)
	{
		values[1] = CStringGetTextDatum(note);
		nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
