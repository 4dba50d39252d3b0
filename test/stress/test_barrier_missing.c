/* The test of the tests of barrier mode: with the barrier left out they must fail.
 *
 * Runs their programs, which lie beside this one, with faults: no barrier at all, the insertion half alone, and one that does not tell where
 * something is stored, which minor collections depend on.  A store
 * behind the collector's back must be found both by the check after each cycle (MIDDEN_DEBUG=check) and, later, by the
 * nodes themselves.  A run of a program that finds nothing is repeated with another seed, TRIES times.
 *
 * The deletion half alone is no fault that a program of few threads meets reliably: what it misses is what a thread gave
 * away after the first scan of another's stack and before that of its own. */
#define _GNU_SOURCE 1
#include <libgen.h>
#include <limits.h>

#include "support/heap_test.h"

enum { TRIES = 8, SECONDS = 60 };

struct fault {
  const char *program;
  const char *fault;
  const char *configuration;
};

static const struct fault faults[] = {
    {"test_barrier", "missing", "check"},          {"test_barrier", "missing", "small"},
    {"test_barrier", "missing-deletion", "check"}, {"test_barrier", "missing-deletion", "small"},
    {"test_barrier_handover", "missing", "check"}, {"test_barrier_handover", "missing-deletion", "check"},
    {"test_barrier", "missing-slot", "minor"},
};

static int run_program(void *argument) {
  const struct fault *fault = argument;
  char path[PATH_MAX], program[PATH_MAX + 64], seed[32];
  ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length <= 0) return 100;
  path[length] = 0;
  snprintf(program, sizeof(program), "%s/%s", dirname(path), fault->program);
  snprintf(seed, sizeof(seed), "%" PRIu64, test_seed_value);
  setenv("MIDDEN_TEST_SEED", seed, 1);
  unsetenv("MIDDEN_DEBUG");
  execl(program, program, fault->configuration, fault->fault, (char *)NULL);
  return 100;
}

/* How the program tells of the damage does not matter, but it must be by abort, not for want of time. */
static bool finds_damage(const struct fault *fault) {
  struct test_outcome outcome = test_child(run_program, (void *)(uintptr_t)fault, SECONDS);
  int status = outcome.status;
  REQUIRE(!WIFEXITED(status) || WEXITSTATUS(status) != 100, "%s cannot be run", fault->program);
  REQUIRE(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM, "%s %s %s hangs", fault->program, fault->configuration,
          fault->fault);
  if (status == 0) return false;
  outcome.message[strcspn(outcome.message, "\n")] = 0;
  printf("  %s %s %s: %s\n", fault->program, fault->configuration, fault->fault, outcome.message);
  return true;
}

int main(void) {
  test_start("test_barrier_missing");
  for (size_t i = 0; i < TEST_COUNT_OF(faults); i++) {
    bool is_found = false;
    for (int tries = 0; tries < TRIES && !is_found; tries++, test_seed_value++) is_found = finds_damage(&faults[i]);
    REQUIRE(is_found, "%s %s with fault %s found nothing", faults[i].program, faults[i].configuration, faults[i].fault);
  }
  return 0;
}
