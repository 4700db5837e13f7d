/*
 * capture.c
 *		Hooks that see statements run.
 *
 * ExecutorEnd counts an execution that came to its end: what failed or was
 * cancelled is not counted.  Statements in functions are counted too, each by
 * itself: they are what an index helps.  A sample is made there too, when it
 * is due: the text that was sent, or the parameters.
 *
 * What may raise an error (a new entry's look at the catalogs, a sample) runs
 * in a subtransaction, in a context that goes away, with interrupts held: the
 * user's statement sees nothing of it but the time.  In parallel mode there
 * are no subtransactions, so there only known statements are counted.
 *
 * A text that names variables cannot be parsed again by itself.  Such
 * statements are known by how they were analysed (post_parse_analyze), which is
 * noted in a set of query ids of this process; see text.c.
 */
#include "pgopt.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "postmaster/bgworker.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "compat.h"
#include "core.h"
#include "workload_internal.h"

static ExecutorStart_hook_type prev_ExecutorStart = NULL;
static ExecutorEnd_hook_type prev_ExecutorEnd = NULL;
static ProcessUtility_hook_type prev_ProcessUtility = NULL;
static post_parse_analyze_hook_type prev_post_parse_analyze = NULL;

/*
 * The source of the utility statement under way that holds another statement,
 * and whether that will be executed.  Compared, never read: an error leaves it
 * behind.
 */
static const char *outer_source = NULL;
static bool outer_executes = false;

/* This transaction made or dropped an index, or the extension. */
static bool index_changed = false;
static bool extension_changed = false;

/* --- statements whose own text does not do ------------------------------------------------ */

/* A set of query ids, open addressing; 0 = free.  Forgets nothing but by remove. */
#define MAX_INDIRECT 32768

static uint64 *indirect = NULL;
static uint32 indirect_size = 0; /* a power of two */
static uint32 indirect_used = 0;
static bool indirect_full = false; /* more than can be noted: no text is trusted */

static uint32
indirect_slot(uint64 queryid)
{
	uint32 slot = (uint32) (queryid ^ (queryid >> 32)) & (indirect_size - 1);

	while (indirect[slot] != 0 && indirect[slot] != queryid)
		slot = (slot + 1) & (indirect_size - 1);
	return slot;
}

static bool
is_indirect(uint64 queryid)
{
	if (indirect_full)
		return true;
	return indirect_used > 0 && indirect[indirect_slot(queryid)] == queryid;
}

static void
note_indirect(uint64 queryid)
{
	if (is_indirect(queryid))
		return;
	if (indirect_used * 2 >= indirect_size)
	{
		uint64 *old = indirect;
		uint32 old_size = indirect_size;
		uint64 *grown = NULL;

		if (indirect_used < MAX_INDIRECT)
			grown = calloc(Max(256, 2 * old_size), sizeof(uint64));
		if (grown == NULL)
		{
			indirect_full = true;
			return;
		}
		indirect = grown;
		indirect_size = Max(256, 2 * old_size);
		for (uint32 i = 0; i < old_size; i++)
			if (old[i] != 0)
				indirect[indirect_slot(old[i])] = old[i];
		free(old);
	}
	indirect[indirect_slot(queryid)] = queryid;
	indirect_used++;
}

/* Closes the gap, so that those behind it are still found. */
static void
forget_indirect(uint64 queryid)
{
	uint32 gap;

	if (indirect_full || !is_indirect(queryid))
		return;
	gap = indirect_slot(queryid);
	indirect[gap] = 0;
	indirect_used--;
	for (uint32 i = (gap + 1) & (indirect_size - 1); indirect[i] != 0;
		 i = (i + 1) & (indirect_size - 1))
	{
		uint64 moved = indirect[i];

		indirect[i] = 0;
		indirect[indirect_slot(moved)] = moved;
	}
}

/* --- what is captured ---------------------------------------------------------------------- */

/* pgopt's own processes, and its own SQL. */
static bool
is_own_code(void)
{
	static int own_process = -1;
	Oid userid;
	int context;

	if (own_process < 0)
		own_process =
			MyBgworkerEntry != NULL && strcmp(MyBgworkerEntry->bgw_library_name, "pgopt") == 0;
	if (own_process > 0)
		return true;
	GetUserIdAndSecContext(&userid, &context);
	return (context & PGOPT_SECURITY_OWN) != 0;
}

static bool
is_capturing(void)
{
	return pgopt_workload_capture && store_ready() && !IsParallelWorker() && !is_own_code();
}

static bool
reads_tables(const PlannedStmt *plan)
{
	ListCell *cell;

	foreach(cell, plan->relationOids)
		if (lfirst_oid(cell) >= FirstNormalObjectId)
			return true;
	return false;
}

/* Of one statement that the user sent, no catalog query, and no second one that a rule added. */
static bool
is_captured(const QueryDesc *queryDesc)
{
	const PlannedStmt *plan = queryDesc->plannedstmt;

	return plan->queryId != 0 && plan->canSetTag && plan->commandType != CMD_UTILITY &&
		   is_capturing() && reads_tables(plan);
}

static StatementKey
key_of(uint64 queryid)
{
	StatementKey key = {.queryid = queryid, .dboid = MyDatabaseId, .userid = GetUserId()};

	return key;
}

/* --- what may raise errors -------------------------------------------------------------------- */

/* Calls it so that no error, and no interrupt, gets out.  False where it failed. */
static bool
call_safely(void (*function)(void *), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	uint32 holdoff = InterruptHoldoffCount;
	int date_style = DateStyle;
	int interval_style = IntervalStyle;
	int float_digits = extra_float_digits;
	MemoryContext context;
	volatile bool done = true;

	if (IsInParallelMode() || !IsTransactionState())
		return false;
	HOLD_INTERRUPTS();
	BeginInternalSubTransaction(NULL);
	context = AllocSetContextCreate(caller, "pgopt capture", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	/* values as they are read back under any settings */
	DateStyle = USE_ISO_DATES;
	IntervalStyle = INTSTYLE_POSTGRES;
	extra_float_digits = 1;
	PG_TRY();
	{
		function(arg);
		MemoryContextSwitchTo(caller);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		InterruptHoldoffCount = holdoff + 1; /* the error took it away */
		RollbackAndReleaseCurrentSubTransaction();
		store_add(USAGE_FAILED, 1);
		done = false;
	}
	PG_END_TRY();
	DateStyle = date_style;
	IntervalStyle = interval_style;
	extra_float_digits = float_digits;
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	MemoryContextDelete(context);
	RESUME_INTERRUPTS();
	return done;
}

static void
look_for_extension(void *arg)
{
	WorkloadDatabase *database = arg;

	pg_atomic_write_u32(&database->installed,
						OidIsValid(pgopt_extension_oid()) ? INSTALLED : NOT_INSTALLED);
}

static void
look_again_for_extension(void)
{
	WorkloadDatabase *database = store_database();

	if (database != NULL)
		pg_atomic_write_u32(&database->installed, INSTALLED_UNKNOWN);
}

/* This database's slot, where the extension is there to keep what is captured. */
static WorkloadDatabase *
capturing_database(void)
{
	WorkloadDatabase *database = store_database();

	if (database == NULL)
		return NULL;
	if (pg_atomic_read_u32(&database->installed) == INSTALLED_UNKNOWN &&
		!call_safely(look_for_extension, database))
		return NULL;
	return pg_atomic_read_u32(&database->installed) == INSTALLED ? database : NULL;
}

/* --- samples ------------------------------------------------------------------------------------ */

typedef struct SampleJob
{
	StatementKey key;
	const QueryDesc *queryDesc;
	Query *query; /* to be put into words; else an execution */
	Execution *execution;
	bool known; /* there is an entry */
} SampleJob;

/* Does it read or write a table that is none of pgopt's own?  Views over functions do not count. */
static bool
is_about_tables(const PlannedStmt *plan)
{
	Oid schema = get_namespace_oid(PGOPT_SCHEMA, true);
	ListCell *cell;

	foreach(cell, plan->relationOids)
	{
		Oid relid = lfirst_oid(cell);

		if (relid >= FirstNormalObjectId && get_rel_namespace(relid) != schema &&
			get_rel_relkind(relid) != RELKIND_VIEW)
			return true;
	}
	return false;
}

/* A statement that is not known yet. */
static void
begin_statement(void *arg)
{
	SampleJob *job = arg;

	if (!is_about_tables(job->queryDesc->plannedstmt))
		return;
	store_create(&job->key, job->execution->command, job->execution->at);
	job->known = store_count(&job->key, job->execution);
}

static void
keep_record(SampleJob *job, CmdType command, const WorkloadSample *sample, bool is_template,
			bool is_sample)
{
	SampleRecord *record = record_build(&job->key, command, sample, is_template, is_sample);

	if (!buffer_append(record))
		store_postpone(&job->key);
	else if (sample->query != NULL)
		store_set_text(&job->key, true);
}

static void
take_sample(void *arg)
{
	SampleJob *job = arg;
	const PlannedStmt *plan = job->queryDesc->plannedstmt;
	WorkloadSample sample = {0};

	sample.search_path = namespace_search_path;
	sample.captured = job->execution->at;
	sample.milliseconds = job->execution->milliseconds;
	sample.rows = job->execution->rows;
	if (!is_indirect(plan->queryId))
	{
		int length;
		const char *text =
			text_slice(job->queryDesc->sourceText, plan->stmt_location, plan->stmt_len, &length);

		if (text != NULL && length > WORKLOAD_MAX_TEXT)
		{
			store_add(USAGE_LONG, 1);
			return;
		}
		if (text != NULL)
			sample.query = pnstrdup(text, length);
	}
	text_parameters(job->queryDesc, &sample);
	if (job->execution->has_plan && job->execution->milliseconds >= pgopt_workload_slow)
		sample.plan = text_plan(unconstify(QueryDesc *, job->queryDesc), sample.milliseconds);
	keep_record(job, plan->commandType, &sample, false, true);
}

static void
put_into_words(void *arg)
{
	SampleJob *job = arg;
	WorkloadSample sample = {0};

	if (!text_reads_tables(job->query, get_namespace_oid(PGOPT_SCHEMA, true)))
		return;
	text_deparse(job->query, pgopt_workload_capture_constants, &sample);
	if (strlen(sample.query) > WORKLOAD_MAX_TEXT)
	{
		store_add(USAGE_LONG, 1);
		return;
	}
	sample.search_path = namespace_search_path;
	sample.captured = GetCurrentStatementStartTimestamp();
	store_create(&job->key, job->query->commandType, sample.captured);
	keep_record(job, job->query->commandType, &sample, true, false);
}

/* --- hooks --------------------------------------------------------------------------------------- */

/*
 * An analysed statement that will be executed: a text of its own that does not
 * do is replaced.
 */
static void
note_query(Query *query, bool own_text)
{
	SampleJob job = {.query = query};

	if (own_text)
		forget_indirect(query->queryId);
	else if (pgopt_workload_capture_constants)
		note_indirect(query->queryId);
	if ((own_text && pgopt_workload_capture_constants) || !text_reads_tables(query, InvalidOid))
		return;
	job.key = key_of(query->queryId);
	if (!store_has_text(&job.key) && capturing_database() != NULL)
		(void) call_safely(put_into_words, &job);
}

static void
workload_post_parse_analyze(ParseState *pstate, Query *query, JumbleState *jstate)
{
	bool inner;

	if (prev_post_parse_analyze)
		prev_post_parse_analyze(pstate, query, jstate);
	if (query->queryId == 0 || query->commandType == CMD_UTILITY || !is_capturing())
		return;
	inner = outer_source != NULL && pstate->p_sourcetext == outer_source;
	if (inner && !outer_executes)
		return;
	note_query(query,
			   !inner && pstate->p_pre_columnref_hook == NULL &&
				   pstate->p_post_columnref_hook == NULL);
}

static void
workload_ExecutorStart(QueryDesc *queryDesc, int eflags)
{
	bool captured = (eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0 && is_captured(queryDesc);

	if (captured && store_plans_wanted())
	{
		StatementKey key = key_of(queryDesc->plannedstmt->queryId);

		if (store_take_plan(&key))
			queryDesc->instrument_options |= INSTRUMENT_ROWS | INSTRUMENT_BUFFERS;
	}
	if (prev_ExecutorStart)
		prev_ExecutorStart(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);

	/* others that measure share it, so it holds what any of them asks for */
	if (captured && queryDesc->totaltime == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(queryDesc->estate->es_query_cxt);

		queryDesc->totaltime = InstrAlloc(1, INSTRUMENT_ALL, false);
		MemoryContextSwitchTo(old);
	}
}

static void
note_execution(QueryDesc *queryDesc)
{
	WorkloadDatabase *database = capturing_database();
	SampleJob job = {.queryDesc = queryDesc};
	Execution execution = {0};
	double rate = pgopt_workload_sample_rate;

	if (database == NULL || rate <= 0 ||
		(rate < 1 && pg_prng_double(&pg_global_prng_state) >= rate))
		return;
	InstrEndLoop(queryDesc->totaltime);
	if (queryDesc->totaltime->nloops == 0)
		return; /* a cursor that nothing was fetched from */

	execution.command = queryDesc->plannedstmt->commandType;
	execution.weight = 1 / rate;
	execution.milliseconds = queryDesc->totaltime->total * 1000.0;
	execution.rows = queryDesc->totaltime->ntuples; /* of all fetches from a cursor */
	execution.at = GetCurrentStatementStartTimestamp();
	execution.period = (TimestampTz) pg_atomic_read_u64(&database->period);
	execution.may_sample = pgopt_workload_capture_constants && !IsInParallelMode();
	execution.has_plan = (queryDesc->instrument_options & INSTRUMENT_ROWS) != 0;

	job.key = key_of(queryDesc->plannedstmt->queryId);
	job.execution = &execution;
	job.known = store_count(&job.key, &execution);
	if (!job.known)
		(void) call_safely(begin_statement, &job);
	if (!job.known)
		return;
	if (execution.want_plan && pgopt_workload_capture_constants)
		store_want_plan(&job.key);
	if (execution.sample)
	{
		if (!buffer_has_room(sizeof(SampleRecord) + 1024))
			store_postpone(&job.key);
		else
			(void) call_safely(take_sample, &job);
	}
	if (pg_atomic_read_u64(&database->since) == 0)
		pg_atomic_write_u64(&database->since, (uint64) execution.at);
	if (pg_atomic_read_u32(&database->waiting) == 0)
	{
		DatabaseState *state = database_state();

		/* the worker sleeps while nothing waits for it */
		pg_atomic_write_u32(&database->waiting, 1);
		if (state != NULL)
			database_wake_worker(state);
	}
}

static void
workload_ExecutorEnd(QueryDesc *queryDesc)
{
	if (queryDesc->totaltime != NULL && is_captured(queryDesc) &&
		(queryDesc->estate->es_top_eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
		note_execution(queryDesc);
	if (prev_ExecutorEnd)
		prev_ExecutorEnd(queryDesc);
	else
		standard_ExecutorEnd(queryDesc);
}

/* Does it hold a statement that the executor will see as if it had been sent by itself? */
static bool
holds_statement(Node *statement, bool *executes)
{
	ListCell *cell;

	*executes = true;
	switch (nodeTag(statement))
	{
		case T_CreateTableAsStmt:
		case T_DeclareCursorStmt:
		case T_PrepareStmt:
			return true;
		case T_CopyStmt:
			return castNode(CopyStmt, statement)->query != NULL;
		case T_ExplainStmt:
			*executes = false;
			foreach(cell, castNode(ExplainStmt, statement)->options)
				if (strcmp(lfirst_node(DefElem, cell)->defname, "analyze") == 0)
					*executes = true;
			return true;
		default:
			return false;
	}
}

/* The query of CREATE TABLE AS and of DECLARE CURSOR; NULL in other statements. */
static Query *
inner_query(Node *statement)
{
	Node *query = NULL;

	if (IsA(statement, CreateTableAsStmt))
		query = castNode(CreateTableAsStmt, statement)->query;
	else if (IsA(statement, DeclareCursorStmt))
		query = castNode(DeclareCursorStmt, statement)->query;
	if (query == NULL || !IsA(query, Query) || castNode(Query, query)->commandType == CMD_UTILITY)
		return NULL;
	return castNode(Query, query);
}

/* Gives it an id where the server does not. */
static PlannedStmt *
identify_inner_query(PlannedStmt *pstmt, const char *source, bool *read_only)
{
	Query *query = inner_query(pstmt->utilityStmt);

	if (COMPAT_IDENTIFIES_INNER_QUERIES || query == NULL || query->queryId != 0 ||
		!capture_query_ids() || !is_capturing())
		return pstmt;
	if (*read_only)
		pstmt = copyObject(pstmt);
	*read_only = false;
	query = inner_query(pstmt->utilityStmt);
	compat_identify(query, source);
	note_query(query, false);
	return pstmt;
}

/* Does it make or drop an index of a table that others see? */
static bool
changes_index(Node *statement)
{
	RangeVar *name;
	Oid relid;

	switch (nodeTag(statement))
	{
		case T_IndexStmt:
			name = castNode(IndexStmt, statement)->relation;
			break;
		case T_ReindexStmt:
			return true;
		case T_DropStmt:
			if (castNode(DropStmt, statement)->removeType != OBJECT_INDEX)
				return false;
			name =
				makeRangeVarFromNameList((List *) linitial(castNode(DropStmt, statement)->objects));
			break;
		default:
			return false;
	}
	relid = RangeVarGetRelid(name, NoLock, true);
	return OidIsValid(relid) && get_rel_persistence(relid) != RELPERSISTENCE_TEMP;
}

static bool
changes_extension(Node *statement)
{
	if (IsA(statement, CreateExtensionStmt))
		return strcmp(castNode(CreateExtensionStmt, statement)->extname, "pgopt") == 0;
	return IsA(statement, DropStmt) &&
		   castNode(DropStmt, statement)->removeType == OBJECT_EXTENSION;
}

static void
workload_ProcessUtility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
						ProcessUtilityContext context, ParamListInfo params,
						QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node *statement = pstmt->utilityStmt;
	bool index = changes_index(statement);
	bool extension = changes_extension(statement);
	bool executes;
	Oid dropped = InvalidOid;

	if (IsA(statement, DropdbStmt))
		dropped = get_database_oid(castNode(DropdbStmt, statement)->dbname, true);
	outer_source = NULL;
	if (holds_statement(statement, &executes))
	{
		pstmt = identify_inner_query(pstmt, queryString, &readOnlyTree);
		outer_source = queryString;
		outer_executes = executes;
	}
	next_ProcessUtility(
		prev_ProcessUtility, pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	outer_source = NULL;
	if (index)
		index_changed = true; /* what it committed itself came before: this is for the rest */
	if (OidIsValid(dropped))
		store_forget_database(dropped);
	if (extension)
	{
		look_again_for_extension();
		extension_changed = true; /* others see it when this transaction has ended */
	}
}

static void
capture_xact_callback(XactEvent event, void *arg)
{
	if ((!index_changed && !extension_changed) ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE))
		return;
	if (index_changed && event == XACT_EVENT_COMMIT)
		workload_new_period();
	if (extension_changed)
		look_again_for_extension();
	index_changed = extension_changed = false;
}

bool
capture_query_ids(void)
{
	return IsQueryIdEnabled();
}

void
capture_init(void)
{
	EnableQueryId();
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = workload_post_parse_analyze;
	prev_ExecutorStart = ExecutorStart_hook;
	ExecutorStart_hook = workload_ExecutorStart;
	prev_ExecutorEnd = ExecutorEnd_hook;
	ExecutorEnd_hook = workload_ExecutorEnd;
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = workload_ProcessUtility;
	RegisterXactCallback(capture_xact_callback, NULL);
}
