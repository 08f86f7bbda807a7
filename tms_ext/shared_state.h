/*
 * State that all sessions share when the library is preloaded, and that each session has for itself otherwise.
 *
 * A module names its state once, in its init function, and asks for it where it uses it; where it lives makes no difference
 * to the module but for what it says in its comments.
 */
#ifndef TMS_SHARED_STATE_H
#define TMS_SHARED_STATE_H

#include "postgres.h"

#include "storage/lwlock.h"

typedef struct TmsSharedState
{
	const char *name; /* of the memory and its lock, as pg_shmem_allocations and wait events show it */
	Size size;
	void (*init)(void *fresh); /* fills in new state, which is all zero before; NULL: that will do */
	void *at; /* NULL: not there yet */
	LWLock *lock; /* NULL: the state is this session's alone */
	struct TmsSharedState *next;
} TmsSharedState;

/* Announces a state, which lives as long as the process. For the init functions that _PG_init calls. */
extern void tms_shared_state_announce(TmsSharedState *state);

/* Asks for the memory of all that were announced, when the library is being preloaded. _PG_init calls it after them. */
extern void tms_shared_state_init(void);

/* The state; made for this session alone if it is not shared. */
extern void *tms_shared_state_get(TmsSharedState *state);

/* The same with its lock held, to be given back soon: nothing in between may wait. */
extern void *tms_shared_state_lock(TmsSharedState *state, LWLockMode mode);
extern void tms_shared_state_unlock(TmsSharedState *state);

/* Microseconds on a clock that never goes back and is the same for all sessions. */
extern int64 tms_shared_clock(void);

#endif
