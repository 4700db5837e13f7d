/*
 * text.c
 *		What stands for a statement: its text, its parameters, its plan.
 *
 * A statement's own text is its part of the source, as it was sent.  Where that
 * cannot be parsed again by itself (it names variables of PL/pgSQL or of an SQL
 * function, or is a part of EXPLAIN, DECLARE, CREATE TABLE AS, PREPARE, COPY),
 * or constants are not wanted, the analysed query is put into words by the
 * server.
 *
 * All but text_slice() may raise errors: the caller is in a subtransaction of
 * its own.  Memory: the current context.
 */
#include "pgopt.h"

#include "access/detoast.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "parser/scansup.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "workload_internal.h"

/* --- the source ----------------------------------------------------------------------- */

static const char *
skip_blanks(const char *at, const char *end)
{
	int depth = 0;

	while (at < end)
	{
		if (depth == 0 && scanner_isspace(*at))
			at++;
		else if (depth == 0 && end - at >= 2 && at[0] == '-' && at[1] == '-')
		{
			while (at < end && *at != '\n' && *at != '\r')
				at++;
		}
		else if (end - at >= 2 && at[0] == '/' && at[1] == '*')
		{
			depth++;
			at += 2;
		}
		else if (depth > 0 && end - at >= 2 && at[0] == '*' && at[1] == '/')
		{
			depth--;
			at += 2;
		}
		else if (depth > 0)
			at++;
		else
			break;
	}
	return at;
}

const char *
text_slice(const char *source, int location, int length, int *slice_length)
{
	static const char *const beginnings[] = {
		"select", "with", "insert", "update", "delete", "merge", "values", "table"};
	const char *text = CleanQuerytext(source, &location, &length);
	const char *word = skip_blanks(text, text + length);
	int left = (int) (text + length - word);

	*slice_length = length;
	if (left > 0 && *word == '(')
		return text;
	for (int i = 0; i < lengthof(beginnings); i++)
	{
		int n = (int) strlen(beginnings[i]);

		if (left > n && pg_strncasecmp(word, beginnings[i], n) == 0 &&
			!isalnum((unsigned char) word[n]) && word[n] != '_' && word[n] != '$' &&
			!IS_HIGHBIT_SET(word[n]))
			return text;
	}
	return NULL;
}

/* --- the analysed query --------------------------------------------------------------- */

static bool
reads_tables_walker(Node *node, Oid *except)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_RELATION && rte->relid >= FirstNormalObjectId &&
			   (!OidIsValid(*except) || get_rel_namespace(rte->relid) != *except);
	}
	if (IsA(node, Query))
		return query_tree_walker(
			(Query *) node, reads_tables_walker, except, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, reads_tables_walker, except);
}

/* Does it name any table that is not the server's own, nor in that schema? */
bool
text_reads_tables(Query *query, Oid except)
{
	return reads_tables_walker((Node *) query, &except);
}

/* Parameters of a query, and constants that become some. */
typedef struct ParamContext
{
	bool constants; /* keep them */
	int nparams;    /* largest number */
	List *replaced; /* of Const, the first of which is nfixed + 1 */
	int nfixed;
	Oid types[WORKLOAD_MAX_PARAMS];
} ParamContext;

static bool
find_params_walker(Node *node, ParamContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
	{
		Param *param = (Param *) node;

		if (param->paramid > WORKLOAD_MAX_PARAMS)
			elog(ERROR, "too many parameters");
		context->types[param->paramid - 1] = param->paramtype;
		context->nparams = Max(context->nparams, param->paramid);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find_params_walker, context, 0);
	return expression_tree_walker(node, find_params_walker, context);
}

/* Equal constants become the same parameter, or an expression would no longer be that of GROUP BY. */
static Node *
param_of_constant(Const *constant, ParamContext *context)
{
	Param *param = makeNode(Param);
	int number = 0;

	while (number < list_length(context->replaced) &&
		   !equal(list_nth(context->replaced, number), constant))
		number++;
	if (number == list_length(context->replaced))
	{
		if (context->nfixed + list_length(context->replaced) >= WORKLOAD_MAX_PARAMS)
			elog(ERROR, "too many constants");
		context->replaced = lappend(context->replaced, constant);
	}
	param->paramkind = PARAM_EXTERN;
	param->paramid = context->nfixed + number + 1;
	param->paramtype = constant->consttype;
	param->paramtypmod = constant->consttypmod;
	param->paramcollid = constant->constcollid;
	param->location = -1;
	context->types[param->paramid - 1] = constant->consttype;
	context->nparams = Max(context->nparams, param->paramid);
	return (Node *) param;
}

static Node *
hide_constants_mutator(Node *node, ParamContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Const))
	{
		if (((Const *) node)->constisnull)
			return (Node *) copyObjectImpl(node);
		return param_of_constant((Const *) node, context);
	}
	if (IsA(node, FuncExpr))
	{
		FuncExpr *function = (FuncExpr *) node;

		/* the others' constants are a type's length, by which the server knows it for a cast */
		if ((function->funcformat == COERCE_EXPLICIT_CAST ||
			 function->funcformat == COERCE_IMPLICIT_CAST) &&
			list_length(function->args) > 1)
		{
			function = copyObject(function);
			linitial(function->args) = hide_constants_mutator(linitial(function->args), context);
			return (Node *) function;
		}
	}
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, hide_constants_mutator, context, 0);
	return expression_tree_mutator(node, hide_constants_mutator, context);
}

/* The server writes for people, on many lines; blanks in quotes stay. */
static char *
squeeze_blanks(char *text)
{
	char *to = text;
	char quote = '\0';

	for (const char *from = text; *from != '\0'; from++)
	{
		if (quote != '\0' || *from == '\'' || *from == '"')
		{
			if (quote == '\0')
				quote = *from;
			else if (*from == quote)
				quote = '\0'; /* a doubled one begins again */
			*to++ = *from;
		}
		else if (!scanner_isspace(*from))
			*to++ = *from;
		else if (to > text && to[-1] != ' ')
			*to++ = ' ';
	}
	*to = '\0';
	return text;
}

void
text_deparse(Query *query, bool constants, WorkloadSample *sample)
{
	ParamContext *context = palloc0(sizeof(ParamContext));

	(void) find_params_walker((Node *) query, context);
	context->nfixed = context->nparams;
	/* the server's function takes locks that the analysis holds already, and may change the tree */
	query = copyObject(query);
	if (!constants)
		query = (Query *) hide_constants_mutator((Node *) query, context);
	sample->query = squeeze_blanks(pg_get_querydef(query, false));
	sample->nparams = context->nparams;
	sample->param_types = context->types;
	sample->param_known = palloc0(context->nparams * sizeof(bool));
	sample->param_values = palloc0(context->nparams * sizeof(char *));
}

/* --- parameters ------------------------------------------------------------------------- */

/* Can values of the type be written down without running anybody's function?  The output function, or InvalidOid. */
static Oid
harmless_output(Oid type)
{
	Form_pg_type form;
	HeapTuple tuple;
	Oid output;
	Oid inner = InvalidOid;
	bool harmless;

	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_type) GETSTRUCT(tuple);
	output = form->typoutput;
	harmless = form->typisdefined && output < FirstGenbkiObjectId;
	switch (form->typtype)
	{
		case TYPTYPE_BASE:
			inner = form->typelem; /* of arrays, or of fixed types of the server's own */
			break;
		case TYPTYPE_DOMAIN:
			inner = form->typbasetype;
			break;
		case TYPTYPE_ENUM:
			break;
		case TYPTYPE_RANGE:
		case TYPTYPE_MULTIRANGE:
			harmless = harmless && type < FirstGenbkiObjectId;
			break;
		default:
			harmless = false;
	}
	ReleaseSysCache(tuple);
	if (harmless && OidIsValid(inner))
		harmless = OidIsValid(harmless_output(inner));
	return harmless ? output : InvalidOid;
}

static bool
is_small(Datum value, int16 length)
{
	if (length > 0)
		return length <= WORKLOAD_MAX_VALUE;
	if (length == -2)
		return strlen(DatumGetCString(value)) <= WORKLOAD_MAX_VALUE;
	/* what is stored elsewhere would have to be fetched */
	return !VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value)) &&
		   toast_raw_datum_size(value) <= WORKLOAD_MAX_VALUE + VARHDRSZ;
}

/*
 * May the values be gone?  A function in SQL is ended with the statement that
 * calls it, where that did not read all of its rows: the rows of which its
 * arguments were parts, sorted ones for example, are freed before.  Only what
 * is in the list itself is there for sure.
 */
static bool
may_be_gone(const QueryDesc *queryDesc)
{
	return queryDesc->dest != NULL && queryDesc->dest->mydest == DestSQLFunction &&
		   (queryDesc->estate->es_top_eflags & EXEC_FLAG_SKIP_TRIGGERS) != 0;
}

void
text_parameters(const QueryDesc *queryDesc, WorkloadSample *sample)
{
	ParamListInfo params = queryDesc->params;
	bool only_by_value = may_be_gone(queryDesc);
	int nparams = params != NULL ? Min(params->numParams, WORKLOAD_MAX_PARAMS) : 0;

	sample->nparams = 0;
	sample->param_types = palloc0(nparams * sizeof(Oid));
	sample->param_values = palloc0(nparams * sizeof(char *));
	sample->param_known = palloc0(nparams * sizeof(bool));
	for (int i = 0; i < nparams; i++)
	{
		ParamExternData workspace;
		ParamExternData *param;
		int16 length;
		bool by_value;
		Oid output;

		if (params->paramFetch != NULL)
			param = params->paramFetch(params, i + 1, true, &workspace);
		else
			param = &params->params[i];
		if (!OidIsValid(param->ptype))
			continue;
		sample->nparams = i + 1;
		sample->param_types[i] = param->ptype;
		if (param->isnull)
		{
			sample->param_known[i] = true;
			continue;
		}
		output = harmless_output(param->ptype);
		get_typlenbyval(param->ptype, &length, &by_value);
		if (!OidIsValid(output) || (only_by_value && !by_value) || !is_small(param->value, length))
			continue;
		sample->param_values[i] = OidOutputFunctionCall(output, param->value);
		sample->param_known[i] = true;
	}
}

/* --- the plan ----------------------------------------------------------------------------- */

/* As EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF, BUFFERS) shows it, but of an execution that was the user's. */
char *
text_plan(QueryDesc *queryDesc, double milliseconds)
{
	ExplainState *es = NewExplainState();

	es->analyze = true;
	es->costs = true;
	es->buffers = (queryDesc->instrument_options & INSTRUMENT_BUFFERS) != 0;
	es->timing = false;
	es->summary = false;
	es->format = EXPLAIN_FORMAT_JSON;
	ExplainBeginOutput(es);
	ExplainOpenGroup("Query", NULL, true, es);
	ExplainPrintPlan(es, queryDesc);
	ExplainPrintTriggers(es, queryDesc);
	ExplainPropertyFloat("Execution Time", "ms", milliseconds, 3, es);
	ExplainCloseGroup("Query", NULL, true, es);
	ExplainEndOutput(es);
	return es->str->len <= WORKLOAD_MAX_PLAN ? es->str->data : NULL;
}
