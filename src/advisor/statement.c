/*
 * statement.c
 *		Statements of the workload, parsed and analysed again.
 *
 * What runs here on behalf of a statement runs as its user: analysis calls the
 * input functions of types, planning folds calls of immutable functions.
 *
 * Locks: analysis takes those that the statement would take; it runs in a
 * subtransaction that is rolled back, so that only AccessShareLock, taken for
 * the transaction around it, remains.
 *
 * Memory: everything lives in the context of the caller.
 *
 * Cost: one analysis a sample, tens of microseconds.
 */
#include "pgopt.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "parser/parse_node.h"
#include "parser/parse_param.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "core.h"
#include "plan_tree.h"
#include "statement.h"

#define GIVE_WAY_MS 100

/* --- as its user ------------------------------------------------------------------ */

typedef struct Role
{
	Oid userid;
	int sec_context;
	int nestlevel;
	bool read_only;
} Role;

/*
 * The path with this session's temporary schema at its end: views there are
 * the caller's, and must not take the place of tables that the statement's
 * user meant, who would run what they call.
 */
static char *
without_own_temporary(const char *search_path)
{
	char *copy = pstrdup(search_path);
	List *names = NIL;
	StringInfoData path;
	ListCell *cell;

	initStringInfo(&path);
	if (SplitIdentifierString(copy, ',', &names))
		foreach(cell, names)
			if (strncmp(lfirst(cell), "pg_temp", strlen("pg_temp")) != 0)
				appendStringInfo(&path, "%s, ", quote_identifier(lfirst(cell)));
	appendStringInfoString(&path, "pg_temp");
	list_free(names);
	pfree(copy);
	return path.data;
}

static void
role_begin(Role *saved, Oid userid, const char *search_path)
{
	char *path;

	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	SetUserIdAndSecContext(userid,
						   saved->sec_context | SECURITY_RESTRICTED_OPERATION | PGOPT_SECURITY_OWN);
	saved->read_only = XactReadOnly;
	XactReadOnly = true; /* what calls itself immutable, and writes, is an error */
	saved->nestlevel = NewGUCNestLevel();
	if (search_path == NULL)
		return;
	path = without_own_temporary(search_path);
	if (strcmp(namespace_search_path, path) != 0)
		(void) set_config_option(
			"search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	pfree(path);
}

static void
role_end(const Role *saved)
{
	XactReadOnly = saved->read_only;
	AtEOXact_GUC(false, saved->nestlevel);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}

void
statement_as_user(const AdvisorStatement *statement, void (*callback)(void *arg), void *arg)
{
	Role saved;

	role_begin(&saved, statement->userid, statement->search_path);
	callback(arg);
	role_end(&saved);
}

typedef struct AsUser
{
	Oid userid;
	const char *search_path;
	void (*callback)(void *arg);
	void *arg;
} AsUser;

static void
call_as_user(void *arg)
{
	const AsUser *call = arg;
	Role saved;

	role_begin(&saved, call->userid, call->search_path);
	call->callback(call->arg);
	role_end(&saved);
}

/*
 * Runs it in a subtransaction that is rolled back, as the user.  Returns NULL,
 * or the error that it raised; that memory or the disk is full is raised again.
 */
static ErrorData *
in_subtransaction(Oid userid, const char *search_path, void (*callback)(void *arg), void *arg)
{
	AsUser call = {.userid = userid, .search_path = search_path, .callback = callback, .arg = arg};
	ErrorData *error = core_try(call_as_user, &call, false);

	if (error != NULL &&
		(error->sqlerrcode == ERRCODE_OUT_OF_MEMORY || error->sqlerrcode == ERRCODE_DISK_FULL))
		ReThrowError(error);
	return error;
}

bool
statement_try(AdvisorStatement *statement, void (*callback)(void *arg), void *arg)
{
	ErrorData *error = in_subtransaction(statement->userid, statement->search_path, callback, arg);

	if (error == NULL)
		return true;
	statement->failure = error->message;
	return false;
}

/* --- what it reads ------------------------------------------------------------------ */

typedef struct Reading
{
	Oid own_schema; /* pgopt's tables are nobody's to advise on */
	List *relations;
	bool unreadable; /* something that cannot be planned from here */
} Reading;

static bool
collect_relations(Node *node, Reading *reading)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && !IsCatalogRelationOid(rte->relid) &&
			get_rel_namespace(rte->relid) != reading->own_schema &&
			(rte->relkind == RELKIND_RELATION || rte->relkind == RELKIND_MATVIEW ||
			 rte->relkind == RELKIND_PARTITIONED_TABLE))
			reading->relations = list_append_unique_oid(reading->relations, rte->relid);
		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			reading->unreadable = true;
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker(
			(Query *) node, collect_relations, reading, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, collect_relations, reading);
}

/* Every relation that the planner is going to open, views included. */
static bool
collect_locks(Node *node, List **locks)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (OidIsValid(rte->relid) &&
			(rte->rtekind == RTE_RELATION || rte->rtekind == RTE_SUBQUERY))
		{
			*locks = list_append_unique_oid(*locks, rte->relid);
			rte->rellockmode = AccessShareLock; /* all that is kept */
		}
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, collect_locks, locks, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, collect_locks, locks);
}

/* --- parsing -------------------------------------------------------------------------- */

/* What one sample is made of, and what comes out. */
typedef struct Parsing
{
	const WorkloadSample *sample;
	RawStmt *raw; /* NULL: the sample's text is to be parsed first, and is one statement */
	AdvisorQuery *query;
	ResourceOwner owner; /* that keeps the locks */
	MemoryContext context;
	Query *found;
	ParamListInfo params;
	uint64 queryid;
	List *locks;
} Parsing;

/* The statement inside EXPLAIN, CREATE TABLE AS, DECLARE CURSOR. */
static Query *
inner_query(Query *query)
{
	Node *utility = query->utilityStmt;

	if (query->commandType != CMD_UTILITY || utility == NULL)
		return query;
	switch (nodeTag(utility))
	{
		case T_ExplainStmt:
			return inner_query(castNode(Query, ((ExplainStmt *) utility)->query));
		case T_CreateTableAsStmt:
			return inner_query(castNode(Query, ((CreateTableAsStmt *) utility)->query));
		case T_DeclareCursorStmt:
			return inner_query(castNode(Query, ((DeclareCursorStmt *) utility)->query));
		default:
			return NULL;
	}
}

/* Values that are not known stay without a type: the planner then estimates for any. */
static ParamListInfo
parameters(const WorkloadSample *sample, const Oid *types, int ntypes)
{
	ParamListInfo params;

	if (ntypes == 0)
		return NULL;
	params = makeParamList(ntypes);
	for (int i = 0; i < ntypes; i++)
	{
		ParamExternData *param = &params->params[i];
		Oid input;
		Oid ioparam;

		memset(param, 0, sizeof(ParamExternData)); /* the list comes as it was allocated */
		param->isnull = true;
		if (i >= sample->nparams || !sample->param_known[i] || !OidIsValid(types[i]))
			continue;
		param->pflags = PARAM_FLAG_CONST;
		param->ptype = types[i];
		if (sample->param_values[i] == NULL)
			continue;
		getTypeInputInfo(types[i], &input, &ioparam);
		param->value =
			OidInputFunctionCall(input, unconstify(char *, sample->param_values[i]), ioparam, -1);
		param->isnull = false;
	}
	return params;
}

static Query *
analyse(RawStmt *raw, const char *text, Oid **types, int *ntypes)
{
	ParseState *pstate = make_parsestate(NULL);
	Query *query;

	pstate->p_sourcetext = text;
	setup_parse_variable_parameters(pstate, types, ntypes);
	query = transformTopLevelStmt(pstate, raw);
	check_variable_parameters(pstate, query);
	free_parsestate(pstate);
	return query;
}

/* In a subtransaction, as the user. */
static void
parse(void *arg)
{
	Parsing *parsing = arg;
	const WorkloadSample *sample = parsing->sample;
	RawStmt *raw = parsing->raw;
	int ntypes = sample->nparams;
	Oid *types = palloc0(Max(ntypes, 1) * sizeof(Oid));
	ResourceOwner own = CurrentResourceOwner;
	Query *query;
	List *rewritten;
	ListCell *cell;

	if (raw == NULL)
	{
		List *raws = raw_parser(sample->query, RAW_PARSE_DEFAULT);

		if (list_length(raws) != 1)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR), errmsg("the text is not one statement")));
		raw = linitial_node(RawStmt, raws);
	}
	for (int i = 0; i < ntypes; i++)
		types[i] = sample->param_types[i];

	query = inner_query(analyse(raw, sample->query, &types, &ntypes));
	if (query == NULL || query->commandType == CMD_UTILITY)
		return;
	if (IsQueryIdEnabled())
	{
		(void) compat_JumbleQuery(query, sample->query);
		parsing->queryid = query->queryId;
	}
	parsing->params = parameters(sample, types, ntypes);

	rewritten = QueryRewrite(query);
	foreach(cell, rewritten)
	{
		Query *one = lfirst_node(Query, cell);

		if (one->commandType == CMD_UTILITY || one->commandType == CMD_NOTHING)
			continue;
		if (parsing->found == NULL || one->canSetTag)
			parsing->found = one;
	}
	if (parsing->found == NULL)
		return;

	(void) collect_locks((Node *) parsing->found, &parsing->locks);
	CurrentResourceOwner = parsing->owner;
	foreach(cell, parsing->locks)
		LockRelationOid(lfirst_oid(cell), AccessShareLock);
	CurrentResourceOwner = own;
}

/* Planning may run functions that are not the server's own, and fail with them. */
static bool
is_users_function(Oid function, void *arg)
{
	return function >= FirstNormalObjectId;
}

static bool
runs_users_code(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return false;
	if (IsA(node, CoerceToDomain) || check_functions_in_node(node, is_users_function, NULL))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, runs_users_code, arg, 0);
	return expression_tree_walker(node, runs_users_code, arg);
}

static void
plan_once(void *arg)
{
	(void) statement_plan((const AdvisorQuery *) arg);
}

/* False where there is nothing to advise; *failure says why it cannot be analysed. */
static bool
prepare_query(AdvisorStatement *statement, AdvisorQuery *query, const WorkloadSample *sample,
			  RawStmt *raw, const char **failure)
{
	Parsing parsing = {.sample = sample,
					   .raw = raw,
					   .query = query,
					   .owner = CurrentResourceOwner,
					   .context = CurrentMemoryContext};
	Reading reading = {.own_schema = get_namespace_oid(PGOPT_SCHEMA, true)};
	ErrorData *error;
	Query *found;

	error = in_subtransaction(statement->userid, sample->search_path, parse, &parsing);
	if (error != NULL)
	{
		*failure = error->message;
		return false;
	}
	found = parsing.found;
	if (found == NULL)
		return false;

	(void) collect_relations((Node *) found, &reading);
	if (reading.unreadable || reading.relations == NIL)
		return false;

	query->statement = statement;
	query->query = found;
	query->params = parsing.params;
	query->text = sample->query;
	if (runs_users_code((Node *) found, NULL))
	{
		error = in_subtransaction(statement->userid, NULL, plan_once, query);
		if (error != NULL)
		{
			*failure = error->message;
			return false;
		}
	}
	statement->command = found->commandType;
	statement->relations = list_concat_unique_oid(statement->relations, reading.relations);
	if (statement->queryid == 0)
		statement->queryid = (int64) parsing.queryid;
	if (found->resultRelation > 0)
	{
		RangeTblEntry *target = rt_fetch(found->resultRelation, found->rtable);

		statement->target = target->relid;
		statement->updated =
			bms_add_members(statement->updated, compat_updated_columns(found, target));
	}
	return true;
}

/* --- the workload ------------------------------------------------------------------------ */

static AdvisorStatement *
make_statement(Oid userid, int nqueries)
{
	AdvisorStatement *statement = palloc0(sizeof(AdvisorStatement));

	statement->userid = userid;
	statement->calls = 1;
	statement->queries = palloc0(nqueries * sizeof(AdvisorQuery));
	return statement;
}

static bool
role_exists(Oid userid)
{
	return GetUserNameFromId(userid, true) != NULL;
}

/* The caller's own path is only for who may act as that user anyway. */
const char *
statement_path_unknown(Oid userid)
{
	if (has_privs_of_role(GetUserId(), userid))
		return GetConfigOption("search_path", false, false);
	return "\"$user\", public";
}

List *
statements_prepare(List *workload, List **failed)
{
	List *statements = NIL;
	ListCell *cell;

	foreach(cell, workload)
	{
		const WorkloadStatement *known = lfirst(cell);
		/* where only pg_stat_statements knows a statement, its texts are planned for any values */
		WorkloadSample generic = {.query = known->text,
								  .search_path = statement_path_unknown(known->userid)};
		const WorkloadSample *samples = known->nsamples > 0 ? known->samples : &generic;
		int nsamples = Min(Max(known->nsamples, 1), ADVISOR_MAX_SAMPLES);
		AdvisorStatement *statement;
		const char *failure = NULL;

		CHECK_FOR_INTERRUPTS();
		if (samples[0].query == NULL || !role_exists(known->userid))
			continue;
		statement = make_statement(known->userid, nsamples);
		statement->queryid = known->queryid;
		statement->calls = Max(known->calls, 1);
		statement->milliseconds = known->milliseconds;
		statement->rows = known->rows;
		statement->text = known->text != NULL ? known->text : samples[0].query;
		statement->search_path = samples[0].search_path;
		for (int i = 0; i < nsamples; i++)
			if (prepare_query(statement,
							  &statement->queries[statement->nqueries],
							  &samples[i],
							  NULL,
							  &failure))
				statement->nqueries++;
		if (statement->nqueries == 0)
		{
			statement->failure = failure;
			if (failure != NULL && failed != NULL)
				*failed = lappend(*failed, statement);
			continue;
		}
		for (int i = 0; i < statement->nqueries; i++)
			statement->queries[i].weight = 1.0 / statement->nqueries;
		statement->id = list_length(statements);
		statements = lappend(statements, statement);
	}
	return statements;
}

/* An error where the caller may not run it, as for EXPLAIN: costs tell what the statistics of a table know. */
static bool
check_permissions(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		(void) compat_check_permissions((Query *) node);
		return query_tree_walker((Query *) node, check_permissions, arg, 0);
	}
	return expression_tree_walker(node, check_permissions, arg);
}

/* Says which of the given texts an error is in: its position counts in that, not in what the caller typed. */
typedef struct GivenText
{
	int number;
	const char *text;
} GivenText;

static void
given_text_error(void *arg)
{
	const GivenText *given = arg;
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(given->text);
	}
	errcontext("statement %d of those given", given->number);
}

static List *
parse_given_text(int number, const char *text)
{
	GivenText given = {.number = number, .text = text};
	ErrorContextCallback callback = {
		.callback = given_text_error, .arg = &given, .previous = error_context_stack};
	List *raws;

	error_context_stack = &callback;
	raws = raw_parser(text, RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;
	return raws;
}

List *
statements_from_texts(ArrayType *texts)
{
	List *statements = NIL;
	const char *search_path = GetConfigOption("search_path", false, false);
	Datum *values;
	bool *nulls;
	int count;

	deconstruct_array(texts, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		char *given;
		ListCell *cell;

		if (nulls[i])
			continue;
		given = TextDatumGetCString(values[i]);
		foreach(cell, parse_given_text(i + 1, given))
		{
			RawStmt *raw = lfirst_node(RawStmt, cell);
			WorkloadSample sample = {.query = given, .search_path = search_path};
			AdvisorStatement *statement = make_statement(GetUserId(), 1);
			const char *failure = NULL;

			CHECK_FOR_INTERRUPTS();
			statement->text = raw->stmt_len > 0
								  ? pnstrdup(given + raw->stmt_location, raw->stmt_len)
								  : given + raw->stmt_location;
			statement->search_path = search_path;
			if (!prepare_query(statement, &statement->queries[0], &sample, raw, &failure))
			{
				if (failure != NULL)
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("statement %d cannot be planned: %s", i + 1, failure),
							 errdetail("The statement is: %s", statement->text)));
				continue;
			}
			statement->nqueries = 1;
			statement->queries[0].weight = 1;
			(void) check_permissions((Node *) statement->queries[0].query, NULL);
			if (statement->queryid == 0)
				statement->queryid = (int64) DatumGetUInt64(hash_any_extended(
					(const unsigned char *) statement->text, (int) strlen(statement->text), 0));
			statement->id = list_length(statements);
			statements = lappend(statements, statement);
		}
	}
	return statements;
}

/* --- planning ------------------------------------------------------------------------------ */

bool
statement_values_unknown(const AdvisorQuery *query)
{
	if (query->params == NULL)
		return false;
	for (int i = 0; i < query->params->numParams; i++)
		if (!OidIsValid(query->params->params[i].ptype))
			return true;
	return false;
}

/* Which would be left out when it starts cannot be told. */
static void
keep_partitions(Plan *plan, Plan *parent, void *arg)
{
	if (IsA(plan, Append))
		compat_no_pruning((Append *) plan);
	else if (IsA(plan, MergeAppend))
		compat_no_pruning((MergeAppend *) plan);
}

/* Nothing is locked to be written to, since nothing is going to be written: who explains the plan starts it. */
static void
read_only_locks(PlannedStmt *plan)
{
	ListCell *cell;

	foreach(cell, plan->rtable)
		((RangeTblEntry *) lfirst(cell))->rellockmode = AccessShareLock;
}

PlannedStmt *
statement_plan(const AdvisorQuery *query)
{
	Role saved;
	PlannedStmt *plan;

	role_begin(&saved, query->statement->userid, query->statement->search_path);
	plan = standard_planner(
		copyObject(query->query), query->text, CURSOR_OPT_PARALLEL_OK, query->params);
	role_end(&saved);
	read_only_locks(plan);
	if (statement_values_unknown(query))
		plan_tree_visit(plan, keep_partitions, NULL);
	return plan;
}

void
statements_give_way(List *statements)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();
	LockData *locks;

	if (!TimestampDifferenceExceeds(last, now, GIVE_WAY_MS))
		return;
	last = now;
	locks = GetLockStatusData();
	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];
		ListCell *cell;

		if (lock->waitLockMode != AccessExclusiveLock ||
			lock->locktag.locktag_type != LOCKTAG_RELATION ||
			lock->locktag.locktag_field1 != MyDatabaseId)
			continue;
		foreach(cell, statements)
		{
			const AdvisorStatement *statement = lfirst(cell);

			if (list_member_oid(statement->relations, lock->locktag.locktag_field2))
				ereport(ERROR,
						(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						 errmsg("gave way to process %d, which waits for a lock on %s",
								lock->pid,
								quote_identifier(get_rel_name(lock->locktag.locktag_field2))),
						 errdetail("Statements on that table would have to wait behind it."),
						 errhint("Nothing was changed; call again.")));
		}
	}
	pfree(locks->locks);
	pfree(locks);
}
