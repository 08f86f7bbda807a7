# Three programs in one repository: the extension (common/, tms_ext/, tms_fdw/ -> tms.so), built with PGXS, and the agent
# (common/, agent/ -> build/agent/tms-agent), built without the server's headers.

EXTENSION = tms
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" tms.control)
MODULE_big = tms

COMMON = status sha256 object_path capture_id capture_record url_sign sigv4 s3 s3_list jpeg
# What decodes photographs; the agent does not.
COMMON_DECODE = jpeg_exif jpeg_info jpeg_codec jpeg_scale jpeg_canvas jpeg_thumbnail jpeg_crop jpeg_compose
OBJS = $(COMMON:%=common/%.o) $(COMMON_DECODE:%=common/%.o) \
	$(patsubst %.c,%.o,$(sort $(wildcard tms_ext/*.c) $(wildcard tms_fdw/*.c)))

# The install script is made of parts, in this order; each part's stem is that of its C file and its test.
SQL_PARTS = $(addprefix tms_ext/sql/,$(addsuffix .sql,$(shell sed 's/\#.*//' tms_ext/sql/order)))
DATA_built = tms--$(EXTVERSION).sql
DATA = $(filter-out $(DATA_built),$(wildcard tms--*--*.sql))

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --inputdir=. --load-extension=tms

PG_CPPFLAGS = -I$(CURDIR)
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
SHLIB_LINK = -lcurl -lcrypto -ljpeg -lpthread -lm
EXTRA_CLEAN = build tms--$(EXTVERSION).sql regression.diffs regression.out results

# Nothing of ours gains from being inlined into JIT code, and bitcode would need clang.
override with_llvm = no

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

tms--$(EXTVERSION).sql: $(SQL_PARTS) tms_ext/sql/order tms.control Makefile
	cat $(SQL_PARTS) > $@

$(OBJS): $(wildcard common/*.h tms_ext/*.h tms_fdw/*.h)
# The loops over pixels become vector instructions.
common/jpeg_scale.o: override CFLAGS += -O3

# --- the agent --------------------------------------------------------------------------------------------------------

AGENT_BUILD = build/agent
AGENT_CC = $(CC)
AGENT_FLAGS = -std=gnu11 -O2 -g -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE -pthread \
	-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wno-unused-parameter -Wno-format-truncation
# make agent SANITIZE=1 AGENT_BUILD=build/agent-asan
ifdef SANITIZE
AGENT_FLAGS := $(filter-out -O2 -D_FORTIFY_SOURCE=2,$(AGENT_FLAGS)) -O1 -fno-omit-frame-pointer \
	-fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
# make fuzz LIBFUZZER=1 SANITIZE=1 AGENT_BUILD=build/fuzz
ifdef LIBFUZZER
AGENT_CC = clang-14
AGENT_FLAGS += -fsanitize=fuzzer-no-link -Wno-unknown-warning-option
FUZZ_MAIN :=
FUZZ_LINK = -fsanitize=fuzzer
endif
AGENT_VERSION = -DTMS_VERSION='"$(EXTVERSION)"'
AGENT_INCLUDES = $(shell pkg-config --cflags libpq)
AGENT_LIBS = -lcurl -lpq -lsqlite3 -lmicrohttpd -lgnutls -ljansson -lcrypto -lpthread
AGENT_SOURCES = $(sort $(wildcard agent/*.c))
AGENT_OBJS = $(AGENT_SOURCES:agent/%.c=$(AGENT_BUILD)/%.o) $(COMMON:%=$(AGENT_BUILD)/common/%.o)
COMMON_ARCHIVE = $(AGENT_BUILD)/libcommon.a
DECODE_OBJS = $(COMMON_DECODE:%=$(AGENT_BUILD)/common/%.o)

all: agent
agent: $(AGENT_BUILD)/tms-agent

$(AGENT_BUILD)/tms-agent: $(AGENT_OBJS)
	$(AGENT_CC) $(AGENT_FLAGS) -pie -o $@ $^ $(AGENT_LIBS)

$(AGENT_BUILD)/%.o: agent/%.c $(wildcard agent/*.h common/*.h)
	@mkdir -p $(@D)
	$(AGENT_CC) $(AGENT_FLAGS) $(AGENT_VERSION) $(AGENT_INCLUDES) -c -o $@ $<

$(AGENT_BUILD)/common/%.o: common/%.c $(wildcard common/*.h)
	@mkdir -p $(@D)
	$(AGENT_CC) $(AGENT_FLAGS) -c -o $@ $<

$(COMMON_ARCHIVE): $(COMMON:%=$(AGENT_BUILD)/common/%.o)
	rm -f $@ && ar rcs $@ $^

# Unit tests: tests/unit/<stem>.c tests common/<stem>.c or agent/<stem>.c through its header; all of the agent but main.
UNIT_TESTS = $(patsubst tests/unit/%.c,$(AGENT_BUILD)/unit/%,$(sort $(wildcard tests/unit/*_test.c)))
unit: $(UNIT_TESTS)
$(AGENT_BUILD)/unit/%: tests/unit/%.c $(filter-out $(AGENT_BUILD)/main.o,$(AGENT_OBJS)) $(DECODE_OBJS)
	@mkdir -p $(@D)
	$(AGENT_CC) $(AGENT_FLAGS) -DVECTORS='"$(CURDIR)/tests/vectors"' -I$(CURDIR) $(AGENT_INCLUDES) -o $@ $^ $(AGENT_LIBS) -ljpeg -lm -lcmocka

# Fuzzers of what strangers send: each is a tests/fuzz/<stem>.c with tests/fuzz/request.c. Here they are linked so that they run
# their corpus once; tests/fuzz/run makes them with libFuzzer.
FUZZERS = config jpeg jpeg_compose jpeg_crop jpeg_info jpeg_thumbnail multipart query s3 side_file signed_url
FUZZ_MAIN ?= tests/fuzz/replay.c
fuzz: $(FUZZERS:%=$(AGENT_BUILD)/fuzz/%)
$(AGENT_BUILD)/fuzz/%: tests/fuzz/%.c tests/fuzz/request.c $(FUZZ_MAIN) \
		$(filter-out $(AGENT_BUILD)/main.o,$(AGENT_OBJS)) $(DECODE_OBJS)
	@mkdir -p $(@D)
	$(AGENT_CC) $(AGENT_FLAGS) -I$(CURDIR) $(AGENT_INCLUDES) -Wl,--wrap=ledger_append,--wrap=cache_quarantine -o $@ $^ \
		$(AGENT_LIBS) -ljpeg -lm $(FUZZ_LINK)

prefix_agent = /usr
install: install-agent
install-agent: agent
	$(INSTALL) -d '$(DESTDIR)$(prefix_agent)/bin' '$(DESTDIR)$(prefix_agent)/lib/systemd/system'
	$(INSTALL_PROGRAM) $(AGENT_BUILD)/tms-agent '$(DESTDIR)$(prefix_agent)/bin/'
	$(INSTALL_DATA) agent/tms-agent.service '$(DESTDIR)$(prefix_agent)/lib/systemd/system/'
	$(INSTALL) -d $(foreach section,1 5,'$(DESTDIR)$(prefix_agent)/share/man/man$(section)')
	$(INSTALL_DATA) docs/man/tms-agent.1 '$(DESTDIR)$(prefix_agent)/share/man/man1/'
	$(INSTALL_DATA) docs/man/tms-agent.conf.5 '$(DESTDIR)$(prefix_agent)/share/man/man5/'

.PHONY: agent unit fuzz install-agent
