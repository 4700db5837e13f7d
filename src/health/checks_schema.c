/*
 * checks_schema.c
 *		Definitions that do less than they seem to, and keys that run out.
 */
#include "pgopt.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_publication_namespace.h"
#include "catalog/pg_publication_rel.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "health.h"
#include "relations.h"
#include "suspects.h"

/* --- not_valid_constraints ---------------------------------------------------- */

/* Qualified and quoted; NULL where it is gone, or an extension's. */
static char *
domain_name(Oid oid)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(oid));
	Form_pg_type form;
	char *schema;
	char *name = NULL;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	form = (Form_pg_type) GETSTRUCT(tuple);
	schema = get_namespace_name_or_temp(form->typnamespace);
	if (schema != NULL && !OidIsValid(getExtensionOfObject(TypeRelationId, oid)))
		name = quote_qualified_identifier(schema, NameStr(form->typname));
	ReleaseSysCache(tuple);
	return name;
}

static bool
describe_not_valid(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationConstraint *constraint = suspect->what;
	char *name = get_constraint_name(constraint->oid);
	char *owner = constraint->table != NULL ? relation_name(constraint->table->oid)
											: domain_name(constraint->type);

	if (name == NULL || owner == NULL)
		return false;
	name = pstrdup(quote_identifier(name));
	finding->object = psprintf("%s of %s", name, owner);
	finding->message = psprintf("the constraint %s of %s has not been validated: rows from before "
								"may violate it, and the planner does not trust it",
								name,
								owner);
	finding->evidence =
		psprintf("{\"owner\": %s, \"constraint\": %s, \"type\": \"%s\", \"rows\": %.0f}",
				 health_json_string(owner),
				 health_json_string(name),
				 constraint->table == NULL                ? "domain"
				 : constraint->kind == CONSTRAINT_FOREIGN ? "foreign key"
				 : constraint->kind == CONSTRAINT_CHECK   ? "check"
														  : "not null",
				 constraint->table != NULL ? constraint->table->rows : 0);
	finding->remedy = psprintf("ALTER %s %s VALIDATE CONSTRAINT %s;",
							   constraint->table != NULL ? "TABLE" : "DOMAIN",
							   owner,
							   name);
	finding->remedy_lock = constraint->table == NULL ? "SHARE on the tables that use the domain"
						   : constraint->kind == CONSTRAINT_FOREIGN
							   ? "SHARE UPDATE EXCLUSIVE on the table, ROW SHARE on the other"
							   : "SHARE UPDATE EXCLUSIVE on the table";
	return true;
}

static void
check_not_valid(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->nconstraints; i++)
	{
		const RelationConstraint *constraint = &relations->constraints[i];

		if (constraint->valid || !constraint->enforced || constraint->inherited ||
			OidIsValid(constraint->parent))
			continue;
		if (constraint->table != NULL ? relation_is_users(constraint->table)
									  : OidIsValid(constraint->type))
			suspects_add(&suspects,
						 SEVERITY_WARNING,
						 constraint->table != NULL ? constraint->table->rows : 0,
						 constraint,
						 NULL);
	}
	suspects_report(run, &suspects, describe_not_valid, "constraints have not been validated");
}

/* --- no_primary_key ------------------------------------------------------------- */

/* What is published with its updates or deletes. */
typedef struct Published
{
	List *publications;
	bool all;
	List *schemas;
	bool *tables; /* by their place in the array */
} Published;

static void
read_publications(Published *published, const Relations *relations)
{
	Relation rel = table_open(PublicationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_publication form = (Form_pg_publication) GETSTRUCT(tuple);

		if (!form->pubupdate && !form->pubdelete)
			continue;
		published->publications = lappend_oid(published->publications, form->oid);
		published->all |= form->puballtables;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (published->publications == NIL || published->all)
		return;

	rel = table_open(PublicationNamespaceRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_publication_namespace form = (Form_pg_publication_namespace) GETSTRUCT(tuple);

		if (list_member_oid(published->publications, form->pnpubid))
			published->schemas = lappend_oid(published->schemas, form->pnnspid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	published->tables = palloc0(relations->ntables * sizeof(bool));
	rel = table_open(PublicationRelRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_publication_rel form = (Form_pg_publication_rel) GETSTRUCT(tuple);
		RelationInfo *table = relations_table(relations, form->prrelid);

		CHECK_FOR_INTERRUPTS();
		if (table != NULL && list_member_oid(published->publications, form->prpubid))
			published->tables[table - relations->tables] = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* By itself, or with one of its ancestors. */
static bool
is_published(const Published *published, const Relations *relations, const RelationInfo *table)
{
	if (published->publications == NIL || table->persistence != RELPERSISTENCE_PERMANENT)
		return false;
	for (const RelationInfo *t = table; t != NULL; t = t->parent)
		if (published->all || published->tables[t - relations->tables] ||
			list_member_oid(published->schemas, t->namespace))
			return true;
	return false;
}

static const RelationIndex *
primary_key(const RelationInfo *table)
{
	for (const RelationIndex *index = table->indexes; index != NULL; index = index->next)
		if (index->primary)
			return index;
	return NULL;
}

static bool
has_identity(const RelationInfo *table)
{
	const RelationIndex *key = primary_key(table);

	switch (table->replica_identity)
	{
		case REPLICA_IDENTITY_FULL:
			return true;
		case REPLICA_IDENTITY_DEFAULT:
			return key != NULL && key->valid && key->immediate;
		case REPLICA_IDENTITY_INDEX:
			for (const RelationIndex *index = table->indexes; index != NULL; index = index->next)
				if (index->replica_identity && index->valid)
					return true;
			return false;
		default:
			return false;
	}
}

/* A unique index of columns without nulls, which could be the key. */
static const RelationIndex *
key_in_waiting(const RelationInfo *table)
{
	for (const RelationIndex *index = table->indexes; index != NULL; index = index->next)
	{
		bool suits = index->unique && index->valid && index->immediate && !index->partitioned &&
					 !index->has_predicate && !index->has_expressions &&
					 index->am == BTREE_AM_OID && !OidIsValid(get_index_constraint(index->oid));

		for (int i = 0; suits && i < index->nkeys; i++)
		{
			HeapTuple tuple = SearchSysCacheAttNum(table->oid, index->keys[i]);

			suits = HeapTupleIsValid(tuple) && index->options[i] == 0 &&
					((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
			if (HeapTupleIsValid(tuple))
				ReleaseSysCache(tuple);
		}
		if (suits)
			return index;
	}
	return NULL;
}

/* A name that no column has. */
static char *
free_column(const RelationInfo *table)
{
	static const char *const names[] = {"id", "row_id", "pk"};

	for (int i = 0; i < lengthof(names); i++)
		if (get_attnum(table->oid, names[i]) == InvalidAttrNumber)
			return pstrdup(names[i]);
	return NULL;
}

static bool
describe_no_key(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationInfo *table = suspect->what;
	char *name = relation_name(table->oid);
	const RelationIndex *key;

	if (name == NULL)
		return false;
	finding->object = name;
	finding->evidence =
		psprintf("{\"rows\": %.0f, \"published\": %s, \"replica_identity\": \"%s\"}",
				 table->rows,
				 suspect->severity == SEVERITY_WARNING ? "true" : "false",
				 table->replica_identity == REPLICA_IDENTITY_FULL      ? "full"
				 : table->replica_identity == REPLICA_IDENTITY_DEFAULT ? "default"
				 : table->replica_identity == REPLICA_IDENTITY_INDEX   ? "index"
																	   : "nothing");
	if (suspect->severity == SEVERITY_WARNING)
	{
		finding->message = psprintf("%s is published for UPDATE or DELETE, but has no replica "
									"identity: these statements fail",
									name);
		finding->remedy =
			psprintf("ALTER TABLE %s REPLICA IDENTITY FULL; -- a primary key costs less", name);
		finding->remedy_lock = LOCK_ALL;
		return true;
	}

	finding->message = psprintf("%s has no primary key", name);
	key = key_in_waiting(table);
	if (key != NULL)
	{
		char *index = get_rel_name(key->oid);

		if (index == NULL)
			return false;
		finding->remedy = psprintf(
			"ALTER TABLE %s ADD PRIMARY KEY USING INDEX %s;", name, quote_identifier(index));
	}
	else if (table->kind == RELKIND_RELATION)
	{
		char *column = free_column(table);

		/* not to be run unread: it rewrites the table, and breaks SELECT * and COPY without columns */
		if (column != NULL && strpbrk(name, "\r\n") == NULL)
			finding->remedy = psprintf(
				"-- ALTER TABLE %s ADD PRIMARY KEY on the columns that identify its rows, or, which "
				"rewrites the table and shows in SELECT * and COPY,\n"
				"-- ALTER TABLE %s ADD COLUMN %s bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;",
				name,
				name,
				column);
	}
	if (finding->remedy != NULL)
		finding->remedy_lock = LOCK_ALL;
	return true;
}

static void
check_no_key(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};
	Published published = {0};

	read_publications(&published, relations);
	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];

		if ((table->kind != RELKIND_RELATION && table->kind != RELKIND_PARTITIONED_TABLE) ||
			!relation_is_users(table))
			continue;
		CHECK_FOR_INTERRUPTS();
		if (table->kind == RELKIND_RELATION && is_published(&published, relations, table) &&
			!has_identity(table))
			suspects_add(&suspects, SEVERITY_WARNING, table->rows, table, NULL);
		else if (!table->partition && primary_key(table) == NULL)
			suspects_add(&suspects, SEVERITY_INFO, table->rows, table, NULL);
	}
	suspects_report(run, &suspects, describe_no_key, "tables have no primary key");
}

/* --- disabled_triggers ------------------------------------------------------------ */

typedef struct Disabled
{
	RelationInfo *table;
	StringInfoData names; /* ", " between them */
	StringInfoData
		remedy; /* each by name: ENABLE TRIGGER ALL would change those that fire always, too */
	int users;
	int foreign_keys; /* the server's own */
} Disabled;

static bool
describe_disabled(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const Disabled *disabled = suspect->what;
	char *name = relation_name(disabled->table->oid);

	if (name == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf(
		"%s%s%s of %s %s disabled",
		disabled->users > 0
			? psprintf("the trigger%s %s", disabled->users > 1 ? "s" : "", disabled->names.data)
			: "",
		disabled->users > 0 && disabled->foreign_keys > 0 ? " and " : "",
		disabled->foreign_keys > 0 ? "the enforcement of foreign keys" : "",
		name,
		disabled->users > 1 || (disabled->users > 0 && disabled->foreign_keys > 0) ? "are" : "is");
	finding->evidence = psprintf("{\"triggers\": %d, \"of_foreign_keys\": %d, \"names\": %s}",
								 disabled->users,
								 disabled->foreign_keys,
								 health_json_string(disabled->names.data));
	finding->remedy = psprintf("ALTER TABLE %s%s;%s",
							   name,
							   disabled->remedy.data,
							   disabled->foreign_keys > 0 ? " -- checks no row of before" : "");
	finding->remedy_lock = "SHARE ROW EXCLUSIVE on the table";
	return true;
}

/* A partition's is its parent's business, where that is disabled as well. */
static bool
is_parents(Oid parent)
{
	Relation rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool disabled;

	ScanKeyInit(
		&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(parent));
	scan = systable_beginscan(rel, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	disabled = HeapTupleIsValid(tuple) &&
			   ((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled == TRIGGER_DISABLED;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return disabled;
}

static void
check_triggers(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};
	Disabled **found = NULL;
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	if (relations->ntriggered == 0)
		return;
	rel = table_open(TriggerRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		RelationInfo *table;
		Disabled *disabled;
		const char *name;

		CHECK_FOR_INTERRUPTS();
		if (form->tgenabled != TRIGGER_DISABLED)
			continue;
		table = relations_table(relations, form->tgrelid);
		if (table == NULL || !relation_is_users(table) ||
			(OidIsValid(form->tgparentid) && is_parents(form->tgparentid)))
			continue;
		if (found == NULL)
			found = palloc0(relations->ntables * sizeof(Disabled *));
		disabled = found[table - relations->tables];
		if (disabled == NULL)
		{
			disabled = found[table - relations->tables] = palloc0(sizeof(Disabled));
			disabled->table = table;
			initStringInfo(&disabled->names);
			initStringInfo(&disabled->remedy);
			suspects_add(&suspects, SEVERITY_WARNING, table->rows, disabled, NULL);
		}
		name = quote_identifier(NameStr(form->tgname));
		appendStringInfo(
			&disabled->remedy, "%s ENABLE TRIGGER %s", disabled->remedy.len > 0 ? "," : "", name);
		if (form->tgisinternal)
			disabled->foreign_keys++;
		else
			appendStringInfo(&disabled->names, "%s%s", disabled->users++ > 0 ? ", " : "", name);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	suspects_report(run, &suspects, describe_disabled, "tables have disabled triggers");
}

/* --- matview_unpopulated, unlogged_tables ------------------------------------------- */

static bool
describe_unpopulated(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationInfo *view = suspect->what;
	char *name = relation_name(view->oid);

	if (name == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf("%s has never been filled: queries of it fail", name);
	finding->evidence = "{\"populated\": false}";
	finding->remedy = psprintf("REFRESH MATERIALIZED VIEW %s;", name);
	finding->remedy_lock = "ACCESS EXCLUSIVE on the view";
	return true;
}

static void
check_unpopulated(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *view = &relations->tables[i];

		/* one that is being filled for the first time holds a lock on itself */
		if (view->kind == RELKIND_MATVIEW && !view->populated && relation_is_users(view) &&
			!relation_is_maintained(view))
			suspects_add(&suspects, SEVERITY_WARNING, 0, view, NULL);
	}
	suspects_report(
		run, &suspects, describe_unpopulated, "materialized views have never been filled");
}

static bool
describe_unlogged(HealthRun *run, const Suspect *suspect, Finding *finding)
{
	const RelationInfo *table = suspect->what;
	char *name = relation_name(table->oid);

	if (name == NULL)
		return false;
	finding->object = name;
	finding->message = psprintf(
		"%s is unlogged: a crash empties it, and standbys and backups have none of it", name);
	finding->evidence = psprintf("{\"rows\": %.0f, \"bytes\": %.0f}", table->rows, table->bytes);
	finding->remedy = psprintf("ALTER TABLE %s SET LOGGED; -- rewrites the table", name);
	finding->remedy_lock = LOCK_ALL;
	return true;
}

static void
check_unlogged(HealthRun *run)
{
	Relations *relations = health_relations(run);
	Suspects suspects = {0};

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];

		if (table->persistence == RELPERSISTENCE_UNLOGGED && table->kind == RELKIND_RELATION &&
			relation_is_users(table))
			suspects_add(&suspects, SEVERITY_INFO, table->bytes, table, NULL);
	}
	suspects_report(run, &suspects, describe_unlogged, "tables are unlogged");
}

const HealthCheck checks_schema[] = {
	{
		.id = "sequence_exhausted",
		.family = "keys",
		.weight = 1,
		.thresholds = {&keys_warning, &keys_critical},
		.reference = DOCS("sql-createsequence.html"),
		.run = keys_check_sequences,
	},
	{
		.id = "int4_key_exhausted",
		.family = "keys",
		.weight = 1,
		.thresholds = {&keys_warning, &keys_critical},
		.reference = DOCS("datatype-numeric.html#DATATYPE-INT"),
		.run = keys_check_integers,
	},
	{
		.id = "not_valid_constraints",
		.family = "constraints",
		.weight = 1,
		.reference = DOCS("sql-altertable.html#SQL-ALTERTABLE-DESC-VALIDATE-CONSTRAINT"),
		.run = check_not_valid,
	},
	{
		.id = "no_primary_key",
		.family = "constraints",
		.weight = 1,
		.reference = DOCS("logical-replication-publication.html"),
		.run = check_no_key,
	},
	{
		.id = "disabled_triggers",
		.family = "constraints",
		.weight = 1,
		.reference = DOCS("sql-altertable.html#SQL-ALTERTABLE-DESC-DISABLE-ENABLE-TRIGGER"),
		.run = check_triggers,
	},
	{
		.id = "matview_unpopulated",
		.family = "content",
		.weight = 1,
		.reference = DOCS("sql-refreshmaterializedview.html"),
		.run = check_unpopulated,
	},
	{
		.id = "unlogged_tables",
		.family = "content",
		.weight = 1,
		.reference = DOCS("sql-createtable.html#SQL-CREATETABLE-UNLOGGED"),
		.run = check_unlogged,
	},
	{
		.id = "extension_outdated",
		.family = "extensions",
		.weight = 1,
		.reference = DOCS("sql-alterextension.html"),
		.query = "SELECT 'info', quote_ident(x.name),"
				 " format('the extension %s is at version %s, and %s is installed', x.name,"
				 "        x.installed_version, x.default_version),"
				 " jsonb_build_object('installed_version', x.installed_version,"
				 "                    'default_version', x.default_version),"
				 " NULL::timestamptz,"
				 " CASE WHEN EXISTS (SELECT FROM pg_extension_update_paths(x.name) p"
				 "                    WHERE p.source = x.installed_version"
				 "                      AND p.target = x.default_version AND p.path IS NOT NULL)"
				 "      THEN format('ALTER EXTENSION %I UPDATE;', x.name) END,"
				 " 'what its update script takes'"
				 "  FROM pg_available_extensions x"
				 " WHERE x.installed_version <> x.default_version",
	},
};

const int checks_schema_count = lengthof(checks_schema);
