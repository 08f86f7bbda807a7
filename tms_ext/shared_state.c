/*
 * State that all sessions share when the library is preloaded, and that each session has for itself otherwise.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "tms_ext/compat.h"
#include "tms_ext/shared_state.h"

static TmsSharedState *announced;
static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

void tms_shared_state_announce(TmsSharedState *state)
{
	state->next = announced;
	announced = state;
}

static void request_shared_memory(void)
{
	TmsSharedState *state;

	if (previous_request_hook)
		previous_request_hook();
	for (state = announced; state != NULL; state = state->next)
	{
		RequestAddinShmemSpace(MAXALIGN(state->size));
		RequestNamedLWLockTranche(state->name, 1);
	}
}

static void attach_shared_memory(void)
{
	TmsSharedState *state;
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (state = announced; state != NULL; state = state->next)
	{
		state->at = ShmemInitStruct(state->name, state->size, &found);
		state->lock = &GetNamedLWLockTranche(state->name)->lock;
		if (found)
			continue;
		memset(state->at, 0, state->size);
		if (state->init != NULL)
			state->init(state->at);
	}
	LWLockRelease(AddinShmemInitLock);
}

void tms_shared_state_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	tms_on_shmem_request(request_shared_memory, previous_request_hook);
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = attach_shared_memory;
}

void *tms_shared_state_get(TmsSharedState *state)
{
	if (state->at == NULL)
	{
		/* Not palloc'd and cleared: of large tables a session uses few pages, and only those take memory. */
		state->at = calloc(1, state->size);
		if (state->at == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		if (state->init != NULL)
			state->init(state->at);
	}
	return state->at;
}

void *tms_shared_state_lock(TmsSharedState *state, LWLockMode mode)
{
	void *at = tms_shared_state_get(state);

	if (state->lock != NULL)
		LWLockAcquire(state->lock, mode);
	return at;
}

void tms_shared_state_unlock(TmsSharedState *state)
{
	if (state->lock != NULL)
		LWLockRelease(state->lock);
}

int64 tms_shared_clock(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}
