/*
 * places.h
 *		Parts of queries for settings that are wrong somewhere: in the server,
 *		or where roles and databases are given values of their own.
 *
 * What a session has set for itself is no finding, so the server's value is
 * reset_val, unless its source is one of those that belong to a session.
 */
#ifndef PGOPT_PLACES_H
#define PGOPT_PLACES_H

/* What roles and databases are given: name, value, dbid, roleid. */
#define PINNED                                                     \
	"SELECT split_part(o.option, '=', 1) AS name,"                 \
	"       substr(o.option, strpos(o.option, '=') + 1) AS value," \
	"       p.setdatabase AS dbid,"                                \
	"       p.setrole AS roleid"                                   \
	"  FROM pg_db_role_setting p, unnest(p.setconfig) AS o (option)"

/*
 * Findings from the query "place": name, source ('pinned' for a role's or a
 * database's), dbid, roleid, value.  safe is what the remedy sets for the
 * server, as it is written within a string.
 */
#define REPORT_PLACES(severity, safe, danger)                                                     \
	"SELECT '" severity "',"                                                                      \
	"       concat_ws(' ', l.name, 'of ' || l.who),"                                              \
	"       concat_ws(' ', l.name, 'is', l.value, 'for ' || l.who) || ': " danger "',"            \
	"       jsonb_strip_nulls(jsonb_build_object("                                                \
	"           'setting', l.name,"                                                               \
	"           'value', l.value,"                                                                \
	"           'source', l.source,"                                                              \
	"           'role', l.rolname,"                                                               \
	"           'database', l.datname)),"                                                         \
	"       NULL::timestamptz,"                                                                   \
	"       CASE WHEN l.source = 'command line' THEN NULL"                                        \
	"            WHEN l.source <> 'pinned'"                                                       \
	"            THEN format('ALTER SYSTEM SET %I = " safe "; SELECT pg_reload_conf();', l.name)" \
	"            ELSE concat_ws(' ', 'ALTER ROLE', coalesce(quote_ident(l.rolname), 'ALL'),"      \
	"                           'IN DATABASE ' || quote_ident(l.datname),"                        \
	"                           'RESET', quote_ident(l.name)) || ';'"                             \
	"       END,"                                                                                 \
	"       CASE WHEN l.source = 'command line' THEN 'restart of the server' ELSE 'none' END"     \
	"  FROM (SELECT place.*, r.rolname, d.datname,"                                               \
	"               CASE WHEN place.source = 'pinned'"                                            \
	"                    THEN concat_ws(' in ',"                                                  \
	"                             CASE WHEN r.rolname IS NOT NULL"                                \
	"                                  THEN 'role ' || quote_ident(r.rolname)"                    \
	"                                  WHEN place.dbid = 0 THEN 'every role'"                     \
	"                             END,"                                                           \
	"                             'database ' || quote_ident(d.datname))"                         \
	"               END AS who"                                                                   \
	"          FROM place"                                                                        \
	"          LEFT JOIN pg_roles r ON r.oid = place.roleid"                                      \
	"          LEFT JOIN pg_database d ON d.oid = place.dbid) l"

#endif /* PGOPT_PLACES_H */
