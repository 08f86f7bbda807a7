/*
 * Looks up the hosts of a connection string; see registrar_lookup.h.
 *
 * The look-up has two holders, its starter and its thread; who lets go last frees it. Places and count are
 * the thread's until it sets `done`, and nobody's to change afterwards; done_fd only wakes the starter.
 */
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "registrar_lookup.h"

#define HOSTS_MAX 8

struct RegistrarLookup
{
	atomic_int holders;
	atomic_bool done;
	int done_fd;
	RegistrarPlace asked[HOSTS_MAX];
	int asked_count;
	RegistrarPlace places[REGISTRAR_PLACES_MAX];
	int count;
};

static void let_go(RegistrarLookup *lookup)
{
	if (atomic_fetch_sub(&lookup->holders, 1) > 1)
		return;
	close(lookup->done_fd);
	free(lookup);
}

/* --- the thread --- */

/* Adds a place as it was asked for and returns it; NULL: there is no more room. */
static RegistrarPlace *add_place(RegistrarLookup *lookup, const RegistrarPlace *asked)
{
	if (lookup->count == REGISTRAR_PLACES_MAX)
		return NULL;
	lookup->places[lookup->count] = *asked;
	return &lookup->places[lookup->count++];
}

/* Adds all addresses of one host; one that is not known adds none. */
static void look_up(RegistrarLookup *lookup, const RegistrarPlace *asked)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;

	if (asked->address[0] != '\0' || asked->host[0] == '\0' || asked->host[0] == '/' || asked->host[0] == '@')
	{
		add_place(lookup, asked);
		return;
	}
	if (getaddrinfo(asked->host, NULL, &hints, &found) != 0)
		return;
	for (struct addrinfo *info = found; info != NULL; info = info->ai_next)
	{
		RegistrarPlace *place = add_place(lookup, asked);

		if (place != NULL && getnameinfo(info->ai_addr, info->ai_addrlen, place->address, sizeof(place->address), NULL,
										 0, NI_NUMERICHOST) != 0)
			lookup->count--;
	}
	freeaddrinfo(found);
}

static void *run_lookup(void *argument)
{
	RegistrarLookup *lookup = argument;

	for (int i = 0; i < lookup->asked_count; i++)
		look_up(lookup, &lookup->asked[i]);
	atomic_store(&lookup->done, true);
	eventfd_write(lookup->done_fd, 1);
	let_go(lookup);
	return NULL;
}

/* --- its starter --- */

/* Copies element `at` of a comma-separated list; false past its end. What is too long is no host and stays empty. */
static bool list_element(const char *list, int at, char *out, size_t size)
{
	size_t len;

	out[0] = '\0';
	if (list == NULL)
		return false;
	for (int i = 0; i < at; i++)
	{
		list = strchr(list, ',');
		if (list == NULL)
			return false;
		list++;
	}
	len = strcspn(list, ",");
	if (len < size)
	{
		memcpy(out, list, len);
		out[len] = '\0';
	}
	return true;
}

/* Takes the lists apart. One port is that of all hosts. */
static void split_lists(RegistrarLookup *lookup, const char *host, const char *hostaddr, const char *port)
{
	for (int i = 0; i < HOSTS_MAX; i++)
	{
		RegistrarPlace *asked = &lookup->asked[i];
		bool has_host = list_element(host, i, asked->host, sizeof(asked->host));
		bool has_address = list_element(hostaddr, i, asked->address, sizeof(asked->address));

		if (!has_host && !has_address && i > 0)
			return;
		lookup->asked_count++;
		if (!list_element(port, i, asked->port, sizeof(asked->port)) && i > 0)
			list_element(port, 0, asked->port, sizeof(asked->port));
	}
}

RegistrarLookup *registrar_lookup_start(const char *host, const char *hostaddr, const char *port)
{
	RegistrarLookup *lookup = calloc(1, sizeof(*lookup));
	sigset_t all;
	sigset_t before;
	pthread_t thread;
	int error;

	if (lookup == NULL)
		return NULL;
	atomic_init(&lookup->holders, 2);
	atomic_init(&lookup->done, false);
	split_lists(lookup, host, hostaddr, port);
	lookup->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lookup->done_fd < 0)
	{
		free(lookup);
		return NULL;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, NULL, run_lookup, lookup);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
	{
		close(lookup->done_fd);
		free(lookup);
		return NULL;
	}
	pthread_detach(thread);
	return lookup;
}

void registrar_lookup_free(RegistrarLookup *lookup)
{
	if (lookup != NULL)
		let_go(lookup);
}

int registrar_lookup_fd(const RegistrarLookup *lookup)
{
	return lookup->done_fd;
}

int registrar_lookup_places(const RegistrarLookup *lookup, const RegistrarPlace **places)
{
	*places = lookup->places;
	return atomic_load(&lookup->done) ? lookup->count : 0;
}
