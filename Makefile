# pgopt: make, make install, make installcheck as with any PGXS extension.
# script/setup installs what is missing; script/test builds and tests without touching the system.

EXTENSION = pgopt
MODULE_big = pgopt
DATA = $(wildcard pgopt--*.sql)
PGFILEDESC = "pgopt - looks after a database from inside"
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
C_HEADERS = $(wildcard include/*.h src/*/*.h)

PG_CPPFLAGS = -Iinclude
# The server's headers and callback signatures are full of unused parameters, and its lengthof() is unsigned.
PG_CFLAGS += -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare
# A score must have the same bits wherever it is computed.
PG_CFLAGS += -ffp-contract=off
ifneq ($(findstring clang,$(CC)),)
# Debian's PostgreSQL is built with gcc and hands on flags and attributes that only gcc knows.
PG_CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes
endif
ifeq ($(WERROR),1)
PG_CFLAGS += -Werror
endif
ifeq ($(COVERAGE),1)
PG_CFLAGS += --coverage -O0
SHLIB_LINK += --coverage
endif

# make installcheck runs these on a running server that has pgopt installed and preloaded.
REGRESS = $(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --outputdir=build/installcheck
ISOLATION = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=build/installcheck
PROVE_TESTS ?= $(sort $(wildcard test/t/*.pl))
ifneq ($(PROVE_TESTS),)
TAP_TESTS = 1
endif
EXTRA_CLEAN = build tmp_check

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# Everything in this list works without the server's headers.
.PHONY: setup demo test test-versions equality bench coverage format format-check

.DEFAULT_GOAL := all

ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
PROVE_FLAGS += -I test/perl
$(OBJS) $(OBJS:.o=.bc): $(C_HEADERS) Makefile
installcheck: | build/installcheck
build/installcheck:
	mkdir -p $@
else
.PHONY: all install installcheck uninstall clean
all install installcheck uninstall:
	@echo 'The PostgreSQL server headers are missing: run script/setup first (or set PG_CONFIG).' >&2; exit 1
clean:
	rm -rf $(OBJS) pgopt.so $(EXTRA_CLEAN)
endif

setup:
	@script/setup

demo:
	@script/demo

test:
	@script/test

test-versions:
	@script/test-versions

# At least 10,000 incremental refreshes, each compared with the definition (15 to 30 minutes).
equality:
	@PGOPT_NOTES=1 PGOPT_EQUALITY_REFRESHES=10000 PGOPT_TAP_TIMEOUT=9000 script/test tap 060_incremental_equality

coverage:
	@script/test coverage

bench:
	@for b in $(sort $(wildcard bench/*.sh)); do echo "== $$b"; sh $$b || exit 1; done

C_FILES = $(sort $(wildcard src/*.[ch] src/*/*.[ch] include/*.h))
CLANG_FORMAT ?= clang-format

format:
	$(CLANG_FORMAT) -i $(C_FILES)

format-check:
	@bad=; for f in $(C_FILES); do \
	  $(CLANG_FORMAT) "$$f" | cmp -s - "$$f" || bad="$$bad $$f"; \
	done; \
	if [ -n "$$bad" ]; then echo "not formatted (run make format):$$bad" >&2; exit 1; fi
