/*
 * relations.h
 *		What the catalogs and the cumulative statistics say about all
 *		relations of this database, for those who walk over them.
 *
 * Made once a run, in a context under the caller's; everything that it points
 * to lives as long.  Numbers are the catalogs': pages and rows as the last VACUUM or ANALYZE left them.
 * Names are not kept: whoever reports something asks for them.
 *
 * Cost, measured on two shared cores of a virtual machine: 1,000 tables with a
 * primary key and a TOAST table each 4 ms, 50,000 of them (200,000 relations)
 * 220 to 350 ms and 45 MB until the end of the run.
 *
 * Locks: AccessShare on the catalogs, none on any other relation, so a
 * relation may be gone by the time that somebody looks closer.
 */
#ifndef PGOPT_RELATIONS_H
#define PGOPT_RELATIONS_H

#include "pgopt.h"

#include "utils/acl.h"
#include "utils/rel.h"

typedef enum RelationClass
{
	RELATION_USER,
	RELATION_CATALOG, /* pg_catalog and information_schema */
	RELATION_TOAST,   /* whatever it belongs to, unless that is temporary */
	RELATION_TEMP,    /* this session's or another's, with their TOAST */
} RelationClass;

/* From the cumulative statistics; all 0 where they have no entry. */
typedef struct RelationStats
{
	bool known; /* they have one */
	int64 scans;
	int64 read; /* by sequential scans, or entries by index scans */
	int64 inserted;
	int64 updated;
	int64 deleted;
	int64 hot_updated;
	int64 live;
	int64 dead;
	int64 modified; /* since the last analyze */
	int64 added;    /* since the last vacuum */
	TimestampTz vacuumed;
	TimestampTz analyzed; /* by hand or by autovacuum, whichever is later */
} RelationStats;

/* A table, partitioned table, materialized view or TOAST table. */
typedef struct RelationInfo
{
	Oid oid;
	Oid namespace;
	Oid owner;
	Oid am;
	RelationClass class;
	char kind;
	char persistence;
	char replica_identity;
	bool shared;
	bool partition;
	bool populated;
	bool extension;    /* belongs to one */
	bool has_triggers; /* or had */
	bool has_subclass; /* or had */
	bool row_security;
	AclMode to_public; /* what everybody may do with it */
	uint32 pages;
	uint32 all_visible;
	uint32 all_frozen; /* 18 and later, else 0 */
	double tuples;     /* -1 = never counted */
	double rows;       /* the best guess, 0 or more; with those of its partitions */
	double bytes;      /* of its pages, with those of its partitions; without indexes and TOAST */
	TransactionId frozenxid;
	MultiXactId minmxid;
	Oid toast_oid;
	struct RelationInfo *toast;             /* its TOAST table */
	struct RelationInfo *main;              /* what a TOAST table belongs to */
	struct RelationInfo *parent;            /* of a partition */
	struct RelationIndex *indexes;          /* by next */
	struct RelationConstraint *constraints; /* by next */
	const StdRdOptions *options;            /* NULL where all are default */
	int64 index_scans;                      /* of all of its indexes */
	RelationStats stats;
} RelationInfo;

/* An index, or partitioned index. */
typedef struct RelationIndex
{
	Oid oid;
	Oid am;
	RelationInfo *table; /* NULL: it is gone, or came since */
	struct RelationIndex *next;
	struct RelationIndex *parent; /* of a partition's index */
	bool partitioned;
	bool partition;
	bool unique;
	bool nulls_not_distinct;
	bool primary;
	bool exclusion;
	bool immediate;
	bool clustered;
	bool valid;
	bool ready;
	bool live;
	bool replica_identity;
	bool referenced; /* foreign keys of other tables rest on it */
	bool has_predicate;
	bool has_expressions;
	int16 natts; /* with those that are only INCLUDEd */
	int16 nkeys;
	uint32 pages;
	double tuples;
	int16 *keys;     /* natts; 0 = an expression */
	Oid *opclasses;  /* nkeys */
	Oid *collations; /* nkeys */
	int16 *options;  /* nkeys: INDOPTION_DESC, INDOPTION_NULLS_FIRST */
	double bytes;    /* of its pages, with those of its partitions */
	int64 scans;     /* the same */
	bool stats_known;
} RelationIndex;

/* Foreign keys, and all constraints that are not valid. */
typedef struct RelationConstraint
{
	Oid oid;
	RelationInfo *table;             /* NULL for a domain's, or where it is gone */
	RelationInfo *referenced;        /* by a foreign key */
	struct RelationConstraint *next; /* of its table */
	Oid parent;                      /* of a partition's */
	Oid type;                        /* the domain's */
	char kind;                       /* CONSTRAINT_FOREIGN and so on */
	char on_delete;                  /* of a foreign key */
	char on_update;
	bool valid;
	bool enforced;
	bool inherited; /* and not its table's own */
	int16 nkeys;
	int16 *keys; /* of the table */
} RelationConstraint;

typedef struct RelationSequence
{
	Oid oid;
	RelationClass class;
	char persistence;
	bool extension;
} RelationSequence;

typedef struct Relations
{
	RelationInfo *tables;
	int ntables;
	RelationIndex *indexes;
	int nindexes;
	RelationConstraint *constraints;
	int nconstraints;
	RelationSequence *sequences;
	int nsequences;
	int ntriggered; /* tables that have, or had, triggers */
	struct positions_hash *positions;
} Relations;

/* In a context of its own under the one given. */
extern Relations *relations_read(MemoryContext parent);

/* When the cumulative statistics of this database begin; 0 = unknown.  *reset: because somebody reset them. */
extern TimestampTz relations_statistics_since(bool *reset);

/* By OID; NULL where there is none. */
extern RelationInfo *relations_table(const Relations *relations, Oid oid);
extern RelationIndex *relations_index(const Relations *relations, Oid oid);
extern RelationSequence *relations_sequence(const Relations *relations, Oid oid);

/* Qualified and quoted, in the current context; NULL where it is gone. */
extern char *relation_name(Oid oid);

/* Quoted; NULL where it is gone. */
extern char *relation_column(Oid oid, int16 attnum);

/* May the caller read it? */
extern bool relation_may_read(Oid oid);

/* The last of its ancestors, itself where it is no partition. */
extern RelationInfo *relation_root(RelationInfo *table);

/* Does somebody else hold, or prepared, a lock on it that VACUUM, CREATE INDEX CONCURRENTLY or ALTER TABLE take? */
extern bool relation_is_maintained(const RelationInfo *table);

/* "12 MB" */
extern char *bytes_text(double bytes);

/* What belongs to the users of the database: no catalog, no TOAST, no temporary table, no extension's. */
static inline bool
relation_is_users(const RelationInfo *table)
{
	return table->class == RELATION_USER && !table->extension;
}

/* --- what autovacuum would do (autovacuum.c) ----------------------------------- */

/* From what on autovacuum does something, in rows; -1 = never for inserts. */
extern double relation_vacuum_threshold(const RelationInfo *table);
extern double relation_insert_threshold(const RelationInfo *table);
extern double relation_analyze_threshold(const RelationInfo *table);

/* Does autovacuum look after it, but for wraparound? Not where it is off for the server, or for the table. */
extern bool relation_has_autovacuum(const RelationInfo *table);

extern int relation_fillfactor(const RelationInfo *table);

/* Its expressions and predicate as text, in the current context; NULL where it has none, or is gone. */
extern char *index_expressions(Oid oid);
extern char *index_predicate(Oid oid);

/* Usable for queries; whether all partitions have theirs is another question. */
static inline bool
index_is_usable(const RelationIndex *index)
{
	return index->table != NULL && index->live && (index->valid || index->partitioned);
}

/* What remedies lock */
#define LOCK_SHARE_UPDATE "SHARE UPDATE EXCLUSIVE on the table"
#define LOCK_ALL          "ACCESS EXCLUSIVE on the table"

#endif /* PGOPT_RELATIONS_H */
