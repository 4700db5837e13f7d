/*
 * compat.h
 *		The only place that knows about differences between server versions.
 */
#ifndef PGOPT_COMPAT_H
#define PGOPT_COMPAT_H

#include "postgres.h"

#include "access/relation.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/pgstat_internal.h"
#include "utils/rel.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pgopt needs PostgreSQL 15 to 18"
#endif

/* 16 renamed the fields of PgStat_TableStatus and its counters. */
#if PG_VERSION_NUM >= 160000
#define compat_tabstat_relid(status)     ((status)->id)
#define compat_tabstat_shared(status)    ((status)->shared)
#define compat_tabstat_inserted(status)  ((status)->counts.tuples_inserted)
#define compat_tabstat_updated(status)   ((status)->counts.tuples_updated)
#define compat_tabstat_deleted(status)   ((status)->counts.tuples_deleted)
#define compat_tabstat_truncated(status) ((status)->counts.truncdropped)
#define compat_tabstat_scans(status)     ((status)->counts.numscans)
#else
#define compat_tabstat_relid(status)     ((status)->t_id)
#define compat_tabstat_shared(status)    ((status)->t_shared)
#define compat_tabstat_inserted(status)  ((status)->t_counts.t_tuples_inserted)
#define compat_tabstat_updated(status)   ((status)->t_counts.t_tuples_updated)
#define compat_tabstat_deleted(status)   ((status)->t_counts.t_tuples_deleted)
#define compat_tabstat_truncated(status) ((status)->t_counts.t_truncdropped)
#define compat_tabstat_scans(status)     ((status)->t_counts.t_numscans)
#endif

/* 16 renamed fields of the shared entry too, 18 of its key. */
#define compat_tabentry_scans(entry) ((entry)->numscans)
#if PG_VERSION_NUM >= 160000
#define compat_tabentry_live(entry)         ((entry)->live_tuples)
#define compat_tabentry_dead(entry)         ((entry)->dead_tuples)
#define compat_tabentry_modified(entry)     ((entry)->mod_since_analyze)
#define compat_tabentry_added(entry)        ((entry)->ins_since_vacuum)
#define compat_tabentry_vacuumed(entry)     ((entry)->last_vacuum_time)
#define compat_tabentry_autovacuumed(entry) ((entry)->last_autovacuum_time)
#define compat_tabentry_analyzed(entry)     ((entry)->last_analyze_time)
#define compat_tabentry_autoanalyzed(entry) ((entry)->last_autoanalyze_time)
#else
#define compat_tabentry_live(entry)         ((entry)->n_live_tuples)
#define compat_tabentry_dead(entry)         ((entry)->n_dead_tuples)
#define compat_tabentry_modified(entry)     ((entry)->changes_since_analyze)
#define compat_tabentry_added(entry)        ((entry)->inserts_since_vacuum)
#define compat_tabentry_vacuumed(entry)     ((entry)->vacuum_timestamp)
#define compat_tabentry_autovacuumed(entry) ((entry)->autovac_vacuum_timestamp)
#define compat_tabentry_analyzed(entry)     ((entry)->analyze_timestamp)
#define compat_tabentry_autoanalyzed(entry) ((entry)->autovac_analyze_timestamp)
#endif
#if PG_VERSION_NUM >= 180000
#define compat_stats_key_object(key) ((key).objid)
#else
#define compat_stats_key_object(key) ((key).objoid)
#endif

/* 18 counts frozen pages, bounds what autovacuum waits for, and has constraints that are not enforced. */
#if PG_VERSION_NUM >= 180000
#define compat_relallfrozen(form)    ((form)->relallfrozen)
#define compat_conenforced(form)     ((form)->conenforced)
#define compat_vacuum_max(options)   ((options)->autovacuum.vacuum_max_threshold)
#define compat_autovacuum_vacuum_max autovacuum_vac_max_thresh
#else
#define compat_relallfrozen(form)    0
#define compat_conenforced(form)     true
#define compat_vacuum_max(options)   (-1)
#define compat_autovacuum_vacuum_max (-1)
#endif

/* 16 records when a relation was last scanned; 0 where that is not known. */
static inline TimestampTz
compat_last_scan(Oid relid)
{
#if PG_VERSION_NUM >= 160000
	PgStat_StatTabEntry *entry = pgstat_fetch_stat_tabentry(relid);

	return entry != NULL ? entry->lastscan : 0;
#else
	return 0;
#endif
}

/* 16 renamed what says where a relation's files are; 17 the number of a backend. */
#if PG_VERSION_NUM >= 160000
#include "storage/relfilelocator.h"
#include "varatt.h"
typedef RelFileLocator CompatFiles;
#define compat_files(space, database, number) ((RelFileLocator){(space), (database), (number)})
#else
#include "storage/relfilenode.h"
typedef RelFileNode CompatFiles;
#define compat_files(space, database, number) ((RelFileNode){(space), (database), (number)})
#endif
#if PG_VERSION_NUM >= 170000
#define compat_no_backend INVALID_PROC_NUMBER
#else
#define compat_no_backend InvalidBackendId
#endif

/* 17 no longer wants a snapshot to find the end of an index. */
#if PG_VERSION_NUM >= 170000
#define compat_bt_get_endpoint(rel, level, rightmost) _bt_get_endpoint((rel), (level), (rightmost))
#else
#define compat_bt_get_endpoint(rel, level, rightmost) \
	_bt_get_endpoint((rel), (level), (rightmost), NULL)
#endif

/* 16 gave all kinds of objects one ownership check. */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#define compat_owns_relation(relid, role) object_ownercheck(RelationRelationId, (relid), (role))
#define compat_owns_database(dboid, role) object_ownercheck(DatabaseRelationId, (dboid), (role))
#else
#define compat_owns_relation(relid, role) pg_class_ownercheck((relid), (role))
#define compat_owns_database(dboid, role) pg_database_ownercheck((dboid), (role))
#endif

/* The process whose temporary tables are in a schema; 17 counts processes differently. */
#if PG_VERSION_NUM >= 170000
#include "storage/procarray.h"
#define compat_temp_owner(namespace) ProcNumberGetProc(GetTempNamespaceProcNumber(namespace))
#else
#include "storage/sinvaladt.h"
#define compat_temp_owner(namespace) BackendIdGetProc(GetTempNamespaceBackendId(namespace))
#endif

/* 17 has the caller's number in the array of processes under another name. */
#if PG_VERSION_NUM >= 170000
#define compat_my_procno() MyProcNumber
#else
#define compat_my_procno() (MyProc->pgprocno)
#endif

/* 18 took the execute_once argument away. */
#if PG_VERSION_NUM >= 180000
#define compat_ExecutorRun(desc) ExecutorRun((desc), ForwardScanDirection, 0)
#else
#define compat_ExecutorRun(desc) ExecutorRun((desc), ForwardScanDirection, 0, true)
#endif

/* 16 moved the identification of queries, which no longer needs their text. */
#if PG_VERSION_NUM >= 160000
#include "nodes/queryjumble.h"
#define compat_identify(query, source) ((void) JumbleQuery(query))
#else
#include "utils/queryjumble.h"
#define compat_identify(query, source) ((void) JumbleQuery((query), (source)))
#endif

/* 18 identifies the queries in CREATE TABLE AS and DECLARE CURSOR itself. */
#define COMPAT_IDENTIFIES_INNER_QUERIES (PG_VERSION_NUM >= 180000)

/* 18 split what makes EXPLAIN's output. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* 17 and later refresh materialized views under a safe search_path. */
#if PG_VERSION_NUM >= 170000
#define compat_RestrictSearchPath()     RestrictSearchPath()
#define COMPAT_REFRESH_USES_SEARCH_PATH false
#else
#define compat_RestrictSearchPath()     ((void) 0)
#define COMPAT_REFRESH_USES_SEARCH_PATH true
#endif

/* 18 refreshes without parameters. */
#include "commands/matview.h"
#if PG_VERSION_NUM >= 180000
#define compat_ExecRefreshMatView(statement, text) \
	((void) ExecRefreshMatView((statement), (text), NULL))
#else
#define compat_ExecRefreshMatView(statement, text) \
	((void) ExecRefreshMatView((statement), (text), NULL, NULL))
#endif

/* 17 moved the counts of checkpoints into statistics of their own. */
#if PG_VERSION_NUM >= 170000
#define compat_timed_checkpoints     pg_stat_get_checkpointer_num_timed
#define compat_requested_checkpoints pg_stat_get_checkpointer_num_requested
#else
#define compat_timed_checkpoints     pg_stat_get_bgwriter_timed_checkpoints
#define compat_requested_checkpoints pg_stat_get_bgwriter_requested_checkpoints
#endif

/* 16 lets pg_hba.conf include files, and tells which one a rule is from. */
#if PG_VERSION_NUM >= 160000
#define COMPAT_HBA_FILE   "regexp_replace(h.file_name, '^.*/', '')"
#define COMPAT_IDENT_FILE "regexp_replace(m.file_name, '^.*/', '')"
#else
#define COMPAT_HBA_FILE   "'pg_hba.conf'"
#define COMPAT_IDENT_FILE "'pg_ident.conf'"
#endif

/* 16 keeps connections for roles that are no superusers, too. */
#if PG_VERSION_NUM >= 160000
#define COMPAT_RESERVED_CONNECTIONS                            \
	"(current_setting('superuser_reserved_connections')::int " \
	"+ current_setting('reserved_connections')::int)"
#else
#define COMPAT_RESERVED_CONNECTIONS "current_setting('superuser_reserved_connections')::int"
#endif

/*
 * What a replication slot, s, says of itself: 16 tells conflicts on standbys,
 * 17 since when it is not used, why it is lost, and if it is a copy of the
 * primary's.
 */
#if PG_VERSION_NUM >= 170000
#define COMPAT_SLOT_LOST           "(s.wal_status = 'lost' OR s.invalidation_reason IS NOT NULL)"
#define COMPAT_SLOT_LOST_REASON    "coalesce(s.invalidation_reason, 'wal_removed')"
#define COMPAT_SLOT_INACTIVE_SINCE "s.inactive_since"
#define COMPAT_SLOT_SYNCED         "s.synced"
#elif PG_VERSION_NUM >= 160000
#define COMPAT_SLOT_LOST           "(s.wal_status = 'lost' OR s.conflicting)"
#define COMPAT_SLOT_LOST_REASON    "CASE WHEN s.conflicting THEN 'conflict' ELSE 'wal_removed' END"
#define COMPAT_SLOT_INACTIVE_SINCE "NULL::timestamptz"
#define COMPAT_SLOT_SYNCED         "false"
#else
#define COMPAT_SLOT_LOST           "(s.wal_status = 'lost')"
#define COMPAT_SLOT_LOST_REASON    "'wal_removed'"
#define COMPAT_SLOT_INACTIVE_SINCE "NULL::timestamptz"
#define COMPAT_SLOT_SYNCED         "false"
#endif

/* 16 renamed the name of a relation's files. */
#if PG_VERSION_NUM >= 160000
#define compat_rel_files(rel) ((rel)->rd_locator)
#else
#define compat_rel_files(rel) ((rel)->rd_node)
#endif

/* 18 tells the direction of a path key by a comparison, and keeps members of partitions apart. */
#if PG_VERSION_NUM >= 180000
#define compat_pathkey_ascending(key) ((key)->pk_cmptype == COMPARE_LT)
#define CompatMemberIterator          EquivalenceMemberIterator
#define compat_member_iterator_begin(it, eclass, relids) \
	setup_eclass_member_iterator(it, eclass, relids)
#define compat_member_iterator_next(it) eclass_member_iterator_next(it)
#else
#define compat_pathkey_ascending(key) ((key)->pk_strategy == BTLessStrategyNumber)
typedef struct CompatMemberIterator
{
	List *members;
	int next;
} CompatMemberIterator;
#define compat_member_iterator_begin(it, eclass, relids) \
	((it)->members = (eclass)->ec_members, (it)->next = 0)
#define compat_member_iterator_next(it)                                \
	((it)->next < list_length((it)->members)                           \
		 ? (EquivalenceMember *) list_nth((it)->members, (it)->next++) \
		 : NULL)
#endif

/*
 * 16 extends a relation by several blocks at once.  compat_extend() gives one
 * new block, pinned and locked; compat_extend_by() the first of between 1 and
 * *count contiguous ones.  The lock on the extension is taken even for a
 * relation that is new in this transaction: parallel workers may extend it.
 */
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
static inline Buffer
compat_extend(Relation rel, ForkNumber fork)
{
#if PG_VERSION_NUM >= 160000
	return ExtendBufferedRel(BMR_REL(rel), fork, NULL, EB_LOCK_FIRST);
#else
	Buffer buffer;

	LockRelationForExtension(rel, ExclusiveLock);
	buffer = ReadBufferExtended(rel, fork, P_NEW, RBM_ZERO_AND_LOCK, NULL);
	UnlockRelationForExtension(rel, ExclusiveLock);
	return buffer;
#endif
}

static inline BlockNumber
compat_extend_by(Relation rel, uint32 *count)
{
	BlockNumber first = InvalidBlockNumber;
#if PG_VERSION_NUM >= 160000
	Buffer buffers[64];

	*count = Min(*count, lengthof(buffers));
	first = ExtendBufferedRelBy(BMR_REL(rel), MAIN_FORKNUM, NULL, 0, *count, buffers, count);
	for (uint32 i = 0; i < *count; i++)
		ReleaseBuffer(buffers[i]);
#else
	LockRelationForExtension(rel, ExclusiveLock);
	for (uint32 i = 0; i < *count; i++)
	{
		Buffer buffer = ReadBuffer(rel, P_NEW);

		if (i == 0)
			first = BufferGetBlockNumber(buffer);
		ReleaseBuffer(buffer);
	}
	UnlockRelationForExtension(rel, ExclusiveLock);
#endif
	return first;
}

/* 18 tells the delays of ANALYZE from those of VACUUM. */
#if PG_VERSION_NUM >= 180000
#define compat_vacuum_delay_point() vacuum_delay_point(false)
#else
#define compat_vacuum_delay_point() vacuum_delay_point()
#endif

/* 17 asks access methods whether they build in parallel. */
#if PG_VERSION_NUM >= 170000
#define compat_am_can_build_parallel(am) ((am)->amcanbuildparallel = true)
#else
#define compat_am_can_build_parallel(am) ((void) (am))
#endif

/* Before, builds other than of btree have to ask themselves (optimizer/optimizer.h). */
#if PG_VERSION_NUM >= 170000
#define compat_build_workers(heap, index, info) ((info)->ii_ParallelWorkers)
#else
#define compat_build_workers(heap, index, info)                                       \
	(IsNormalProcessingMode()                                                         \
		 ? plan_create_index_workers(RelationGetRelid(heap), RelationGetRelid(index)) \
		 : 0)
#endif

/* 18 hands more to a function that changes the words of a stop list. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_WORDOP_MORE_ARGUMENTS , size_t size, Oid collation
#else
#define COMPAT_WORDOP_MORE_ARGUMENTS
#endif

/* 18 counts searches for EXPLAIN too. */
#if PG_VERSION_NUM >= 180000
#define compat_count_index_scan(scan)                   \
	do                                                  \
	{                                                   \
		pgstat_count_index_scan((scan)->indexRelation); \
		if ((scan)->instrument)                         \
			(scan)->instrument->nsearches++;            \
	} while (0)
#else
#define compat_count_index_scan(scan) pgstat_count_index_scan((scan)->indexRelation)
#endif

/* 18 has one function for bitmap scans of a table instead of two, and plans with NULLS NOT DISTINCT. */
#if PG_VERSION_NUM >= 180000
#define compat_table_has_bitmap_scan(rel)            ((rel)->rd_tableam->scan_bitmap_next_tuple != NULL)
#define compat_set_nulls_not_distinct(info, setting) ((info)->nullsnotdistinct = (setting))
#else
#define compat_table_has_bitmap_scan(rel)            ((rel)->rd_tableam->scan_bitmap_next_block != NULL)
#define compat_set_nulls_not_distinct(info, setting) ((void) 0)
#endif

/* 16 may leave columns out of a map of one table's columns to another's. */
#include "access/attmap.h"
#if PG_VERSION_NUM >= 160000
#define compat_attrmap_by_name(in, out) build_attrmap_by_name((in), (out), false)
#else
#define compat_attrmap_by_name(in, out) build_attrmap_by_name((in), (out))
#endif

/* 17 counts the memory of planning too; 18 has EXPLAIN's own structures in headers of their own. */
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif
#if PG_VERSION_NUM >= 170000
#define compat_ExplainOnePlan(plan, es, text, params, planning) \
	ExplainOnePlan((plan), NULL, (es), (text), (params), NULL, (planning), NULL, NULL)
#else
#define compat_ExplainOnePlan(plan, es, text, params, planning) \
	ExplainOnePlan((plan), NULL, (es), (text), (params), NULL, (planning), NULL)
#endif

/* 18 keeps with the statement what prunes partitions when execution begins. */
#if PG_VERSION_NUM >= 180000
#define compat_no_pruning(append) ((append)->part_prune_index = -1)
#else
#define compat_no_pruning(append) ((append)->part_prune_info = NULL)
#endif

/* 16 has what is checked of a range table entry beside it. */
#if PG_VERSION_NUM >= 160000
#define compat_add_range_entry(query, rte) \
	((query)->rtable = list_make1(rte), (void) addRTEPermissionInfo(&(query)->rteperminfos, (rte)))
#else
#define compat_add_range_entry(query, rte) ((query)->rtable = list_make1(rte))
#endif

/* 17 no longer hands the row of pg_attribute to the functions of ANALYZE. */
#if PG_VERSION_NUM >= 170000
#define compat_set_statistics_target(stats, target) ((stats)->attstattarget = (target))
#else
#define compat_set_statistics_target(stats, target)          \
	((stats)->attr = palloc0(sizeof(FormData_pg_attribute)), \
	 (stats)->attr->attstattarget = (target))
#endif

/* 18 has generated columns that are not kept, and cannot be indexed. */
#if PG_VERSION_NUM >= 180000
#define compat_is_virtual(attribute) ((attribute)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#else
#define compat_is_virtual(attribute) false
#endif

/* 16 counts the partitions that an index is made for. */
#include "commands/defrem.h"
#if PG_VERSION_NUM >= 160000
#define compat_define_index(relid, stmt) \
	DefineIndex(                         \
		(relid), (stmt), InvalidOid, InvalidOid, InvalidOid, -1, false, false, true, false, true)
#else
#define compat_define_index(relid, stmt) \
	DefineIndex(                         \
		(relid), (stmt), InvalidOid, InvalidOid, InvalidOid, false, false, true, false, true)
#endif

/* 16 may truncate a table as its owner.  Neither is sent to subscribers. */
#include "commands/tablecmds.h"
#if PG_VERSION_NUM >= 160000
#define compat_truncate(rel) \
	ExecuteTruncateGuts(     \
		list_make1(rel), list_make1_oid(RelationGetRelid(rel)), NIL, DROP_RESTRICT, false, false)
#else
#define compat_truncate(rel) \
	ExecuteTruncateGuts(     \
		list_make1(rel), list_make1_oid(RelationGetRelid(rel)), NIL, DROP_RESTRICT, false)
#endif

/* 18 writes what does not return before a declaration instead of after it. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn __attribute__((noreturn))
#endif

/* 16 moved the computation of query ids, and what a query may do to a relation. */
#if PG_VERSION_NUM >= 160000
#include "nodes/queryjumble.h"
#include "parser/parse_relation.h"
#define compat_JumbleQuery(query, text) JumbleQuery(query)
#define compat_updated_columns(query, rte) \
	(getRTEPermissionInfo((query)->rteperminfos, (rte))->updatedCols)
#else
#include "utils/queryjumble.h"
#define compat_JumbleQuery(query, text)    JumbleQuery((query), (text))
#define compat_updated_columns(query, rte) ((rte)->updatedCols)
#endif

/* 16 keeps what a query's user needs apart from its tables. */
#if PG_VERSION_NUM >= 160000
#define compat_check_permissions(query) \
	ExecCheckPermissions((query)->rtable, (query)->rteperminfos, true)
#else
#define compat_check_permissions(query) ExecCheckRTPerms((query)->rtable, true)
#endif

/* 16 has indexes that summarize, whose columns may change in a HOT update. */
#if PG_VERSION_NUM >= 160000
#include "access/amapi.h"
#define COMPAT_HOT_BLOCKING_COLUMNS  INDEX_ATTR_BITMAP_HOT_BLOCKING
#define compat_am_is_summarizing(am) (GetIndexAmRoutineByAmId((am), false)->amsummarizing)
#else
#define COMPAT_HOT_BLOCKING_COLUMNS  INDEX_ATTR_BITMAP_ALL
#define compat_am_is_summarizing(am) ((void) (am), false)
#endif

/* 18 has a set operation's inputs apart, and says of a path key which way it compares, not by which strategy. */
#if PG_VERSION_NUM >= 180000
#define compat_setop_children(path)   list_make2((path)->leftpath, (path)->rightpath)
#define compat_pathkey_direction(key) ((int) (key)->pk_cmptype)
#else
#define compat_setop_children(path)   list_make1((path)->subpath)
#define compat_pathkey_direction(key) ((key)->pk_strategy)
#endif

/* 17 renamed what compares a search_path with the current one. */
#include "catalog/namespace.h"
#if PG_VERSION_NUM >= 170000
#define compat_search_path_is_current(path) SearchPathMatchesCurrentEnvironment(path)
#else
#define compat_search_path_is_current(path) OverrideSearchPathMatchesCurrent(path)
#endif

/* 16 tells apart which indexes an update has to change, and can change summarizing ones only. */
#include "access/tableam.h"
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes CompatUpdateIndexes;
#define compat_update_indexes(which)   ((which) != TU_None)
#define compat_only_summarizing(which) ((which) == TU_Summarizing)
#define compat_ExecInsertIndexTuples(info, slot, estate, update, only_summarizing) \
	ExecInsertIndexTuples((info), (slot), (estate), (update), false, NULL, NIL, (only_summarizing))
#else
typedef bool CompatUpdateIndexes;
#define compat_update_indexes(which)   (which)
#define compat_only_summarizing(which) false
#define compat_ExecInsertIndexTuples(info, slot, estate, update, only_summarizing) \
	ExecInsertIndexTuples((info), (slot), (estate), (update), false, NULL, NIL)
#endif

/* 16 counts the parts of a partitioned index while it is made. */
#include "commands/defrem.h"
#if PG_VERSION_NUM >= 160000
#define compat_DefineIndex(table, statement) \
	DefineIndex((table),                     \
				(statement),                 \
				InvalidOid,                  \
				InvalidOid,                  \
				InvalidOid,                  \
				-1,                          \
				false,                       \
				false,                       \
				false,                       \
				false,                       \
				true)
#else
#define compat_DefineIndex(table, statement) \
	DefineIndex((table),                     \
				(statement),                 \
				InvalidOid,                  \
				InvalidOid,                  \
				InvalidOid,                  \
				false,                       \
				false,                       \
				false,                       \
				false,                       \
				true)
#endif

/* 16 renamed what gives a relation new files; 17 tells REINDEX for whom it works. */
#include "catalog/index.h"
#include "utils/relcache.h"
#if PG_VERSION_NUM >= 160000
#define compat_set_new_files(rel, persistence) RelationSetNewRelfilenumber((rel), (persistence))
#else
#define compat_set_new_files(rel, persistence) RelationSetNewRelfilenode((rel), (persistence))
#endif
#if PG_VERSION_NUM >= 170000
#define compat_reindex_relation(relid) \
	((void) reindex_relation(NULL, (relid), 0, &(ReindexParams){0}))
#else
#define compat_reindex_relation(relid) ((void) reindex_relation((relid), 0, &(ReindexParams){0}))
#endif

/* 18 counts an index scan for EXPLAIN. */
#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

/* Whether a column holds no NULL; 18 has NOT NULL constraints that old rows may break. */
static inline bool
compat_column_is_not_null(Oid relid, AttrNumber attnum)
{
	Relation rel = relation_open(relid, AccessShareLock);
	bool result;

#if PG_VERSION_NUM >= 180000
	result = TupleDescCompactAttr(RelationGetDescr(rel), attnum - 1)->attnullability ==
			 ATTNULLABLE_VALID;
#else
	result = TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attnotnull;
#endif
	relation_close(rel, NoLock);
	return result;
}

/* 16 tells in Vars which outer joins may make them null, and keeps permissions apart. */
#if PG_VERSION_NUM >= 160000
#define compat_clear_nulling(var)                   ((var)->varnullingrels = NULL)
#define compat_flatten_join_alias_vars(query, node) flatten_join_alias_vars(NULL, (query), (node))
#else
#define compat_clear_nulling(var)                   ((void) (var))
#define compat_flatten_join_alias_vars(query, node) flatten_join_alias_vars((query), (node))
#endif

/* For a query that only becomes text again. */
static inline void
compat_forget_permissions(Query *query)
{
	ListCell *lc;

#if PG_VERSION_NUM >= 160000
	query->rteperminfos = NIL;
	foreach(lc, query->rtable)
		((RangeTblEntry *) lfirst(lc))->perminfoindex = 0;
#else
	foreach(lc, query->rtable)
		((RangeTblEntry *) lfirst(lc))->checkAsUser = InvalidOid;
#endif
}

/* 18 has what is grouped by in the range table, and knows RETURNING's OLD and NEW. */
#if PG_VERSION_NUM >= 180000
#define compat_flatten_group_exprs(query)                                                  \
	do                                                                                     \
	{                                                                                      \
		if ((query)->hasGroupRTE)                                                          \
		{                                                                                  \
			(query)->targetList =                                                          \
				(List *) flatten_group_exprs(NULL, (query), (Node *) (query)->targetList); \
			(query)->havingQual = flatten_group_exprs(NULL, (query), (query)->havingQual); \
			(query)->hasGroupRTE = false;                                                  \
		}                                                                                  \
	} while (0)
#define compat_ReplaceVarsFromTargetList(node, rti, rte, targets) \
	ReplaceVarsFromTargetList(                                    \
		(node), (rti), 0, (rte), (targets), 0, REPLACEVARS_REPORT_ERROR, 0, NULL)
#else
#define compat_flatten_group_exprs(query) ((void) (query))
#define compat_ReplaceVarsFromTargetList(node, rti, rte, targets) \
	ReplaceVarsFromTargetList((node), (rti), 0, (rte), (targets), REPLACEVARS_REPORT_ERROR, 0, NULL)
#endif

#endif /* PGOPT_COMPAT_H */
