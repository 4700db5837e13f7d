/*
 * pgopt.h
 *		Names and limits that every room of pgopt shares.
 *
 * Rooms depend on each other in one direction only:
 *
 *		core <- monitor <- relations <- changes <- rowlog <- workload <- incremental <-
 *		matview <- search <-
 *		worker <- bloat <- advisor <- health
 *
 * Lock order, over all rooms (a process that holds a lock may only take one
 * that stands further right; none is held across a catalog access):
 *
 *		slot lock (worker) -> database lock (changes) -> prepared lock
 *		(changes) -> table partition lock (changes) -> spinlocks
 */
#ifndef PGOPT_H
#define PGOPT_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define PGOPT_VERSION "1.0"

/* The schema of pgopt's own tables; what users call lives in @extschema@. */
#define PGOPT_SCHEMA "pgopt"

/* Databases of one server that can have the extension at the same time. */
#define PGOPT_MAX_DATABASES 256

/* Refreshes that can run at once in one server, at most. */
#define PGOPT_MAX_REFRESH_SLOTS 64

#endif /* PGOPT_H */
