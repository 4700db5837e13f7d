/*
 * checks_security.c
 *		Who gets in, how, and what everybody may do.
 */
#include "pgopt.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "health.h"
#include "places.h"
#include "relations.h"

static Threshold superusers_allowed = {
	.name = "superusers_allowed",
	.unit = UNIT_NUMBER,
	.boot_value = 0,
	.description = "How many superusers that can log in are fine, beside the first one.",
};

static const char superusers_query[] =
	"WITH superuser AS MATERIALIZED ("
	"    SELECT r.oid, r.rolname, r.rolconnlimit, r.rolvaliduntil"
	"      FROM pg_roles r"
	"     WHERE r.rolsuper"
	"       AND r.rolcanlogin"
	"       AND r.oid <> 10" /* whom initdb made */
	") SELECT 'warning',"
	"       quote_ident(s.rolname),"
	"       format('role %I can log in and is a superuser: nothing is forbidden to it', s.rolname),"
	"       jsonb_build_object("
	"           'role', s.rolname,"
	"           'superusers', (SELECT count(*) FROM superuser),"
	"           'connection_limit', s.rolconnlimit,"
	"           'password_valid_until', s.rolvaliduntil),"
	"       NULL::timestamptz,"
	"       format('ALTER ROLE %I NOSUPERUSER;', s.rolname),"
	"       'none'"
	"  FROM superuser s"
	" WHERE (SELECT count(*) FROM superuser) > $1";

/* The rules of pg_hba.conf as the file has them now. */
#define RULES                                                                               \
	"WITH rule AS ("                                                                        \
	"    SELECT " COMPAT_HBA_FILE " AS file, h.line_number AS line, h.type,"                \
	"           h.database AS databases, h.user_name AS roles, h.address, h.netmask,"       \
	"           h.auth_method AS method,"                                                   \
	"           array_to_string(h.options, ' ') AS options,"                                \
	"           h.type = 'local'"                                                           \
	"               OR h.address IN ('localhost', 'samehost')"                              \
	"               OR h.address LIKE '127.%' AND h.netmask LIKE '255.%'"                   \
	"               OR h.address = '::1' AND h.netmask NOT LIKE '%:' AS is_local"           \
	"      FROM pg_hba_file_rules() h"                                                      \
	"     WHERE h.error IS NULL"                                                            \
	"), remote AS ("                                                                        \
	"    SELECT r.*,"                                                                       \
	"           format('%s line %s', r.file, r.line) AS object,"                            \
	"           r.address IN ('0.0.0.0', '::', 'all')"                                      \
	"               AND coalesce(r.netmask, '0.0.0.0') IN ('0.0.0.0', '::') AS everywhere," \
	"           format('line %s of %s lets %s from %s', r.line, r.file,"                    \
	"                  CASE WHEN r.roles = '{all}' THEN 'every role'"                       \
	"                       ELSE array_to_string(r.roles, ', ') END,"                       \
	"                  CASE WHEN r.address IN ('0.0.0.0', '::', 'all')"                     \
	"                            AND coalesce(r.netmask, '0.0.0.0') IN ('0.0.0.0', '::')"   \
	"                       THEN 'anywhere'"                                                \
	"                       ELSE concat_ws(' netmask ', r.address, r.netmask) END) AS who," \
	"           jsonb_strip_nulls(jsonb_build_object("                                      \
	"               'file', r.file,"                                                        \
	"               'line', r.line,"                                                        \
	"               'type', r.type,"                                                        \
	"               'databases', r.databases,"                                              \
	"               'roles', r.roles,"                                                      \
	"               'address', r.address,"                                                  \
	"               'netmask', r.netmask,"                                                  \
	"               'method', r.method,"                                                    \
	"               'options', r.options,"                                                  \
	"               'listen_addresses', current_setting('listen_addresses')))"              \
	"               AS evidence"                                                            \
	"      FROM rule r"                                                                     \
	"     WHERE NOT r.is_local"                                                             \
	") "

static const char hba_trust_query[] =
	RULES "SELECT CASE WHEN l.beyond OR r.everywhere THEN 'critical' ELSE 'warning' END,"
		  "       r.object,"
		  "       r.who || ' in without a password'"
		  "             || CASE WHEN l.beyond THEN ''"
		  "                     ELSE ', once the server listens to more than this machine' END,"
		  "       r.evidence,"
		  "       NULL::timestamptz,"
		  "       format('SELECT pg_reload_conf(); -- once line %s of %s asks for scram-sha-256',"
		  "              r.line, r.file),"
		  "       'none'"
		  "  FROM remote r,"
		  "       (SELECT coalesce(bool_or(btrim(a.address, ' \"') NOT IN ('', 'localhost', '::1')"
		  "                                AND btrim(a.address, ' \"') NOT LIKE '127.%'), false)"
		  "          FROM unnest(string_to_array(current_setting('listen_addresses'), ','))"
		  "               AS a (address)) AS l (beyond)"
		  " WHERE r.method = 'trust'"
		  "   AND r.options IS DISTINCT FROM 'clientcert=verify-ca'"
		  "   AND r.options IS DISTINCT FROM 'clientcert=verify-full'"
		  " UNION ALL "
		  "SELECT 'info',"
		  "       min(r.file),"
		  "       'whoever is on this machine gets in without a password: method trust in line '"
		  "           || string_agg(r.line::text, ', ' ORDER BY r.line),"
		  "       jsonb_build_object('lines', jsonb_agg(r.line ORDER BY r.line)),"
		  "       NULL,"
		  "       'SELECT pg_reload_conf();"
		  " -- once these lines ask for peer (local) or scram-sha-256 (host)',"
		  "       'none'"
		  "  FROM rule r"
		  " WHERE r.method = 'trust'"
		  "   AND r.is_local"
		  " HAVING count(*) > 0";

static const char hba_cleartext_query[] = RULES
	"SELECT 'warning',"
	"       r.object,"
	"       format('%s in with method %s: the password crosses the network as it is,"
	" unless the client encrypts', r.who, r.method),"
	"       r.evidence,"
	"       NULL::timestamptz,"
	"       CASE WHEN r.method = 'password'"
	"            THEN format('SELECT pg_reload_conf(); -- once line %s of %s asks for scram-sha-256',"
	"                        r.line, r.file)"
	"            ELSE format('SELECT pg_reload_conf(); -- once line %s of %s begins with hostssl',"
	"                        r.line, r.file)"
	"       END,"
	"       'none'"
	"  FROM remote r"
	" WHERE r.method IN ('password', 'ldap', 'pam', 'bsd', 'radius')"
	"   AND r.type IN ('host', 'hostnossl', 'hostnogssenc')"
	" UNION ALL "
	"SELECT 'info',"
	"       min(r.file),"
	"       'md5, which no longer protects passwords, is the method in line '"
	"           || string_agg(r.line::text, ', ' ORDER BY r.line),"
	"       jsonb_build_object('lines', jsonb_agg(r.line ORDER BY r.line)),"
	"       NULL,"
	"       'SELECT pg_reload_conf();"
	" -- once these lines ask for scram-sha-256, and every password is stored so',"
	"       'none'"
	"  FROM rule r"
	" WHERE r.method = 'md5'"
	" HAVING count(*) > 0";

/* The server has no TLS, and lets others than this machine in. */
static const char hba_plain_query[] = RULES
	"SELECT 'info',"
	"       min(r.file),"
	"       'ssl is off: what roles from other machines send and get can be read on the way (line '"
	"           || string_agg(r.line::text, ', ' ORDER BY r.line) || ')',"
	"       jsonb_build_object("
	"           'lines', jsonb_agg(r.line ORDER BY r.line),"
	"           'ssl', current_setting('ssl'),"
	"           'listen_addresses', current_setting('listen_addresses')),"
	"       NULL::timestamptz,"
	/* ssl = on without these files would keep the server from starting: nothing to run as it is */
	"       'SELECT pg_reload_conf(); -- once ssl_cert_file and ssl_key_file exist, and ssl is on',"
	"       'none'"
	"  FROM remote r"
	" WHERE current_setting('ssl') = 'off'"
	"   AND r.type IN ('host', 'hostnossl')"
	"   AND r.method <> 'reject'"
	"HAVING count(*) > 0";

/* Roles that can make themselves superusers by way of the server's files and programs. */
/*
 * Members of members have it as well: what goes is the grant that lets them in,
 * each by its own grantor, for whom REVOKE does nothing otherwise from 16 on.
 */
static const char server_access_query[] =
	"WITH RECURSIVE holder AS ("
	"    SELECT g.oid AS granted, g.rolname AS rights, m.member AS direct, m.member AS role"
	"      FROM pg_roles g"
	"      JOIN pg_auth_members m ON m.roleid = g.oid"
	"     WHERE g.rolname IN ('pg_execute_server_program', 'pg_write_server_files')"
	"     UNION "
	"    SELECT h.granted, h.rights, h.direct, m.member"
	"      FROM holder h"
	"      JOIN pg_auth_members m ON m.roleid = h.role"
	") "
	"SELECT 'warning',"
	"       quote_ident(r.rolname),"
	"       format('role %I can log in and has %s: it can make itself a superuser',"
	"              r.rolname, string_agg(DISTINCT h.rights::text, ', ')),"
	"       jsonb_build_object("
	"           'role', r.rolname,"
	"           'granted', jsonb_agg(DISTINCT h.rights),"
	"           'through', coalesce(jsonb_agg(DISTINCT d.rolname) FILTER (WHERE h.role <> h.direct),"
	"                               '[]')),"
	"       NULL::timestamptz,"
	"       string_agg(DISTINCT format('REVOKE %I FROM %I%s;', h.rights, d.rolname,"
	"                                  ' GRANTED BY ' || quote_ident(o.rolname)), ' '),"
	"       'none'"
	"  FROM holder h"
	"  JOIN pg_roles r ON r.oid = h.role"
	"  JOIN pg_roles d ON d.oid = h.direct"
	"  JOIN pg_auth_members m ON m.roleid = h.granted AND m.member = h.direct"
	"  LEFT JOIN pg_roles o ON o.oid = m.grantor"
	" WHERE r.rolcanlogin"
	"   AND NOT r.rolsuper"
	" GROUP BY r.rolname";

static const char unencrypted_query[] =
	"SELECT 'warning',"
	"       concat_ws(' in database ', quote_ident(r.rolname), quote_ident(d.datname)),"
	"       format('%s unencrypted connections of role %I come over the network, from %s',"
	"              count(*), r.rolname, string_agg(DISTINCT host(a.client_addr), ', ')),"
	"       jsonb_build_object("
	"           'role', r.rolname,"
	"           'database', d.datname,"
	"           'connections', count(*),"
	"           'addresses', jsonb_agg(DISTINCT host(a.client_addr)),"
	"           'ssl', current_setting('ssl')),"
	"       min(a.backend_start),"
	"       CASE current_setting('ssl')"
	"            WHEN 'on' THEN 'SELECT pg_reload_conf();"
	" -- once their lines in pg_hba.conf begin with hostssl; then let them connect again'"
	"            ELSE 'SELECT pg_reload_conf();"
	" -- once ssl is on with a certificate, and pg_hba.conf has hostssl; then let them connect again'"
	"       END,"
	"       'none'"
	"  FROM pg_stat_get_activity(NULL) a"
	"  LEFT JOIN pg_roles r ON r.oid = a.usesysid"
	"  LEFT JOIN pg_database d ON d.oid = a.datid"
	" WHERE a.backend_type = 'client backend'"
	"   AND a.client_addr IS NOT NULL"
	"   AND NOT a.client_addr <<= '127.0.0.0/8'"
	"   AND a.client_addr <> '::1'"
	"   AND NOT a.ssl"
	"   AND NOT a.gss_enc"
	" GROUP BY r.rolname, d.datname";

static const char public_schema_query[] =
	"SELECT 'warning',"
	"       quote_ident(n.nspname),"
	"       format('everybody may create objects in schema %I,"
	" and so change what the names in others'' statements mean', n.nspname),"
	"       jsonb_build_object("
	"           'schema', n.nspname,"
	"           'owner', pg_get_userbyid(n.nspowner),"
	"           'acl', n.nspacl::text),"
	"       NULL::timestamptz,"
	"       format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC;', n.nspname),"
	"       'none'"
	"  FROM pg_namespace n"
	" WHERE n.nspacl IS NOT NULL" /* the default gives nothing to PUBLIC */
	"   AND n.nspname !~ '^pg_(toast_)?temp_'"
	"   AND EXISTS (SELECT FROM aclexplode(n.nspacl) a"
	"                WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')";

static const char md5_passwords_query[] =
	"SELECT 'warning',"
	"       quote_ident(a.rolname),"
	"       format('the password of role %I is stored as an md5 hash,"
	" which can be broken, and be used as it is', a.rolname),"
	"       jsonb_build_object("
	"           'role', a.rolname,"
	"           'may_log_in', a.rolcanlogin,"
	"           'superuser', a.rolsuper),"
	"       NULL::timestamptz,"
	"       format('SET password_encryption = ''scram-sha-256'';"
	" -- then \\password %s, which asks for the new one',"
	"              translate(quote_ident(a.rolname), E'\\n\\r', '  '))," /* or it would end the comment */
	"       'none'"
	"  FROM pg_authid a"
	" WHERE a.rolpassword LIKE 'md5%'";

static const char password_encryption_query[] =
	"WITH pinned AS (" PINNED "), place AS ("
	"    SELECT s.name, s.source, 0::oid AS dbid, 0::oid AS roleid, s.reset_val AS value"
	"      FROM pg_settings s"
	"     WHERE current_setting('password_encryption') = 'md5'"
	"       AND s.name = 'password_encryption'"
	"       AND s.reset_val = 'md5'"
	"       AND s.source NOT IN ('global', 'database', 'user', 'database user', 'client')"
	"    UNION ALL"
	"    SELECT p.name, 'pinned', p.dbid, p.roleid, p.value"
	"      FROM pinned p"
	"     WHERE p.name = 'password_encryption'"
	"       AND lower(p.value) = 'md5'"
	") " REPORT_PLACES("warning", "''scram-sha-256''",
					   "new passwords are stored as hashes that can be broken");

/*
 * Whoever may call such a function can put what it names into a schema of his
 * own, and have that run with the rights of its owner.
 */
static const char security_definer_query[] =
	"SELECT CASE WHEN r.rolsuper THEN 'warning' ELSE 'info' END,"
	"       f.name,"
	"       format('everybody may call %s, which runs as %s %I with the search_path of its caller',"
	"              f.name, CASE WHEN r.rolsuper THEN 'superuser' ELSE 'role' END, r.rolname),"
	"       jsonb_build_object("
	"           'function', f.name,"
	"           'owner', r.rolname,"
	"           'owner_is_superuser', r.rolsuper,"
	"           'language', l.lanname),"
	"       NULL::timestamptz,"
	"       format('ALTER ROUTINE %s SET search_path = %I, pg_temp;"
	" -- with the other schemas that it uses', f.name, n.nspname),"
	"       'none'"
	"  FROM (SELECT p.oid, p.oid::regprocedure::text AS name, p.proowner, p.prolang, p.pronamespace"
	"          FROM pg_proc p"
	"         WHERE p.prosecdef"
	"           AND p.prosqlbody IS NULL"
	"           AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')"
	"           AND has_function_privilege('public', p.oid, 'EXECUTE')"
	"           AND has_schema_privilege('public', p.pronamespace, 'USAGE')) f"
	"  JOIN pg_language l ON l.oid = f.prolang AND l.lanname NOT IN ('c', 'internal')"
	"  JOIN pg_namespace n ON n.oid = f.pronamespace"
	"  JOIN pg_roles r ON r.oid = f.proowner"
	" WHERE NOT EXISTS (SELECT FROM pg_depend d"
	"                    WHERE d.classid = 'pg_proc'::regclass"
	"                      AND d.objid = f.oid"
	"                      AND d.deptype = 'e')";

/* One look-up in pg_class for each table that has policies. */
static const char row_security_query[] =
	"SELECT 'warning',"
	"       t.name,"
	"       format('table %s has %s policies, and its row security is off: they do nothing',"
	"              t.name, t.policies),"
	"       jsonb_build_object("
	"           'table', t.name,"
	"           'policies', t.policies),"
	"       NULL::timestamptz,"
	"       format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', t.name),"
	"       'ACCESS EXCLUSIVE on the table'"
	"  FROM (SELECT p.polrelid::regclass::text AS name,"
	"               count(*) AS policies,"
	"               (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = p.polrelid) AS enabled"
	"          FROM pg_policy p"
	"         GROUP BY p.polrelid) t"
	" WHERE NOT t.enabled";

static void
check_hba_trust(HealthRun *run)
{
	if (health_may_call(run, "pg_hba_file_rules()"))
		health_query(run, hba_trust_query);
}

static void
check_hba_cleartext(HealthRun *run)
{
	if (health_may_call(run, "pg_hba_file_rules()"))
		health_query(run, hba_cleartext_query);
}

static void
check_hba_plain(HealthRun *run)
{
	if (health_may_call(run, "pg_hba_file_rules()"))
		health_query(run, hba_plain_query);
}

static void
check_md5_passwords(HealthRun *run)
{
	/* nobody should be given that right for this */
	if (pg_class_aclcheck(AuthIdRelationId, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		run->unknown = "only superusers see how passwords are stored: ask as one";
	else
		health_query(run, md5_passwords_query);
}

static bool
public_may_use(Oid namespace)
{
	return DatumGetBool(DirectFunctionCall3(has_schema_privilege_name_id,
											CStringGetDatum("public"),
											ObjectIdGetDatum(namespace),
											CStringGetTextDatum("USAGE")));
}

/* "INSERT, UPDATE" */
static char *
write_privileges(AclMode granted)
{
	static const struct
	{
		AclMode mode;
		const char *name;
	} privileges[] = {
		{ACL_INSERT, "INSERT"},
		{ACL_UPDATE, "UPDATE"},
		{ACL_DELETE, "DELETE"},
		{ACL_TRUNCATE, "TRUNCATE"},
		{ACL_TRIGGER, "TRIGGER"},
	};
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < lengthof(privileges); i++)
		if ((granted & privileges[i].mode) != 0)
			appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", privileges[i].name);
	return text.data;
}

static void
check_public_data(HealthRun *run)
{
	Relations *relations = health_relations(run);

	for (int i = 0; i < relations->ntables; i++)
	{
		const RelationInfo *table = &relations->tables[i];
		char *privileges;
		char *name;
		Finding finding = {.severity = "warning", .remedy_lock = "none"};

		if (table->to_public == ACL_NO_RIGHTS || !relation_is_users(table) || table->row_security)
			continue;
		privileges = write_privileges(table->to_public);
		if (privileges[0] == '\0' || !public_may_use(table->namespace))
			continue;
		name = relation_name(table->oid);
		if (name == NULL)
			continue;
		finding.object = name;
		finding.message =
			psprintf("everybody may change table %s: PUBLIC has %s", name, privileges);
		finding.evidence = psprintf("{\"table\": %s, \"privileges\": \"%s\", \"owner\": %s}",
									health_json_string(name),
									privileges,
									health_json_string(GetUserNameFromId(table->owner, true)));
		finding.remedy = psprintf("REVOKE %s ON TABLE %s FROM PUBLIC;", privileges, name);
		health_report(run, &finding);
	}
}

const HealthCheck checks_security[] = {
	{
		.id = "superusers",
		.family = "superusers",
		.weight = 1,
		.thresholds = {&superusers_allowed},
		.reference = DOCS("role-attributes.html"),
		.query = superusers_query,
	},
	{
		.id = "hba_trust",
		.family = "authentication",
		.weight = 1,
		.reference = DOCS("auth-trust.html"),
		.run = check_hba_trust,
	},
	{
		.id = "hba_cleartext",
		.family = "authentication",
		.weight = 1,
		.reference = DOCS("auth-password.html"),
		.run = check_hba_cleartext,
	},
	{
		.id = "unencrypted_connections",
		.family = "encryption",
		.weight = 1,
		.needs = "pg_read_all_stats",
		.reference = DOCS("ssl-tcp.html"),
		.query = unencrypted_query,
	},
	{
		.id = "encryption_off",
		.family = "encryption",
		.weight = 1,
		.reference = DOCS("ssl-tcp.html"),
		.run = check_hba_plain,
	},
	{
		.id = "server_access",
		.family = "superusers",
		.weight = 1,
		.reference = DOCS("predefined-roles.html"),
		.query = server_access_query,
	},
	{
		.id = "public_schema_writable",
		.family = "public",
		.weight = 1,
		.reference = DOCS("ddl-schemas.html#DDL-SCHEMAS-PATTERNS"),
		.query = public_schema_query,
	},
	{
		.id = "public_data",
		.family = "public",
		.weight = 1,
		.reference = DOCS("ddl-priv.html"),
		.run = check_public_data,
	},
	{
		.id = "md5_passwords",
		.family = "passwords",
		.weight = 1,
		.reference = DOCS("auth-password.html"),
		.run = check_md5_passwords,
	},
	{
		.id = "password_encryption_md5",
		.family = "passwords",
		.weight = 1,
		.reference = DOCS("runtime-config-connection.html#GUC-PASSWORD-ENCRYPTION"),
		.query = password_encryption_query,
	},
	{
		.id = "security_definer_path",
		.family = "functions",
		.weight = 1,
		.reference = DOCS("sql-createfunction.html#SQL-CREATEFUNCTION-SECURITY"),
		.query = security_definer_query,
	},
	{
		.id = "rls_without_enable",
		.family = "row_security",
		.weight = 1,
		.reference = DOCS("ddl-rowsecurity.html"),
		.query = row_security_query,
	},
};

const int checks_security_count = lengthof(checks_security);
