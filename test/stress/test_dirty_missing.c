/* The test of test_dirty.c: with what was written left out, in all or in part, the check after a mark must find what was
 * missed.
 *
 * Runs that program, which lies beside this one, with faults: none of the written pages is reported; every second range is
 * not; none is reported in the stop; none of static data.  Of the first two each run must be stopped by the check.  The third
 * loses only what no round has met, and was written to its place after the last one, and static data has few places: a run
 * that finds nothing is repeated with another seed. */
#define _GNU_SOURCE 1
#include <libgen.h>
#include <limits.h>

#include "support/heap_test.h"

enum { SECONDS = 100, CANNOT_RUN = 100 };

struct fault {
  const char *configuration;
  const char *fault;
  int tries;
};

static const struct fault faults[] = {
    {"huge", "missing", 1},        {"huge", "missing-half", 1},     {"small", "missing", 1},
    {"small", "missing-half", 1},  {"callbacks", "missing", 1},     {"callbacks", "missing-half", 1},
    {"poison", "missing", 1},      {"poison", "missing-half", 1},   {"stress", "missing", 1},
    {"stress", "missing-half", 1}, {"stress", "missing-stop", 25},  {"minor", "missing", 1},
    {"minor", "missing-half", 1},  {"stress", "missing-static", 8},
};

static int run_program(void *argument) {
  const struct fault *fault = argument;
  char path[PATH_MAX], program[PATH_MAX + 64], seed[32];
  ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length <= 0) return CANNOT_RUN;
  path[length] = 0;
  snprintf(program, sizeof(program), "%s/test_dirty", dirname(path));
  snprintf(seed, sizeof(seed), "%" PRIu64, test_seed_value);
  setenv("MIDDEN_TEST_SEED", seed, 1);
  unsetenv("MIDDEN_DEBUG");
  execl(program, program, fault->configuration, fault->fault, (char *)NULL);
  return CANNOT_RUN;
}

/* By the check, and by nothing else; how else a run may end is with success. */
static bool is_found(const struct fault *fault) {
  struct test_outcome outcome = test_child(run_program, (void *)(uintptr_t)fault, SECONDS);
  int status = outcome.status;
  if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_SKIPPED) exit(TEST_SKIPPED);
  if (status == 0) return false;
  char *found = strstr(outcome.message, "midden: check: ");
  REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && found != NULL, "test_dirty %s %s: status 0x%x: %s",
          fault->configuration, fault->fault, (unsigned)status, outcome.message);
  found[strcspn(found, "\n")] = 0;
  printf("  %s %s: %s\n", fault->configuration, fault->fault, found);
  return true;
}

int main(void) {
  test_start("test_dirty_missing");
  for (size_t i = 0; i < TEST_COUNT_OF(faults); i++) {
    bool found = false;
    for (int tries = 0; tries < faults[i].tries && !found; tries++, test_seed_value++) found = is_found(&faults[i]);
    REQUIRE(found, "test_dirty %s with fault %s found nothing", faults[i].configuration, faults[i].fault);
  }
  return 0;
}
