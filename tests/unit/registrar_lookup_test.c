/*
 * Tests of agent/registrar_lookup.c: libpq's lists of hosts and ports taken apart, and a look-up that is left behind.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/registrar_lookup.h"

static int wait_for_places(RegistrarLookup *lookup, const RegistrarPlace **places)
{
	struct pollfd done = {.fd = registrar_lookup_fd(lookup), .events = POLLIN};

	assert_int_equal(poll(&done, 1, 20000), 1);
	return registrar_lookup_places(lookup, places);
}

static void assert_place(const RegistrarPlace *place, const char *host, const char *address, const char *port)
{
	assert_string_equal(place->host, host);
	assert_string_equal(place->address, address);
	assert_string_equal(place->port, port);
}

static void nothing_given(void **state)
{
	RegistrarLookup *lookup = registrar_lookup_start(NULL, NULL, NULL);
	const RegistrarPlace *places;

	assert_int_equal(wait_for_places(lookup, &places), 1);
	assert_place(&places[0], "", "", "");
	registrar_lookup_free(lookup);
}

static void lists(void **state)
{
	RegistrarLookup *lookup = registrar_lookup_start("/run/a,127.0.0.2,::1,/run/b", NULL, "1,,3,4");
	const RegistrarPlace *places;

	assert_int_equal(wait_for_places(lookup, &places), 4);
	assert_place(&places[0], "/run/a", "", "1");
	assert_place(&places[1], "127.0.0.2", "127.0.0.2", "");
	assert_place(&places[2], "::1", "::1", "3");
	assert_place(&places[3], "/run/b", "", "4");
	registrar_lookup_free(lookup);
}

/* A given address is not looked up, and its host is only a name; one port is for all. */
static void addresses_given(void **state)
{
	RegistrarLookup *lookup = registrar_lookup_start("path.center.invalid,other.invalid", "10.0.0.4,10.0.0.5", "5433");
	const RegistrarPlace *places;

	assert_int_equal(wait_for_places(lookup, &places), 2);
	assert_place(&places[0], "path.center.invalid", "10.0.0.4", "5433");
	assert_place(&places[1], "other.invalid", "10.0.0.5", "5433");
	registrar_lookup_free(lookup);
}

static void names(void **state)
{
	RegistrarLookup *lookup = registrar_lookup_start("localhost", NULL, NULL);
	const RegistrarPlace *places;
	int count = wait_for_places(lookup, &places);

	assert_in_range(count, 1, REGISTRAR_PLACES_MAX);
	for (int i = 0; i < count; i++)
		assert_true(strcmp(places[i].address, "127.0.0.1") == 0 || strcmp(places[i].address, "::1") == 0);
	registrar_lookup_free(lookup);
}

/* The sanitizers tell when such a look-up leaks or writes to what is gone. */
static void left_behind(void **state)
{
	for (int i = 0; i < 50; i++)
		registrar_lookup_free(registrar_lookup_start("localhost,127.0.0.1", NULL, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_given), cmocka_unit_test(lists),       cmocka_unit_test(addresses_given),
		cmocka_unit_test(names),         cmocka_unit_test(left_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
