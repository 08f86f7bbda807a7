/*
 * The path center of the simulation: a connection to it, and its tables as a whole. Every failure ends the program.
 */
#ifndef SIMULATE_PATH_CENTER_H
#define SIMULATE_PATH_CENTER_H

#include <libpq-fe.h>

/* Tells what failed and why, and ends the program. */
extern void die(const char *what, const char *why) __attribute__((noreturn));

/* Connects, and makes room for one backup: temporary tables "sim_...". */
extern void path_center_open(const char *conninfo);
extern void path_center_close(void);

/* Runs a statement; the caller clears the result. */
extern PGresult *query(const char *sql);

/* Runs a statement whose result nobody wants. */
extern void run_sql(const char *sql);

/* The one number that a query gives. */
extern long count_of(const char *sql);

/* Empties the tables whose names begin with `to` and, unless `from` is NULL, fills them from those that begin so. */
extern void path_center_fill(const char *from, const char *to);

#endif
