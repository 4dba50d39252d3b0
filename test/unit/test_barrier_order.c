/* Barrier mode, before its first cycle: the process is registered with the system for barriers that all threads pass.  That takes
 * 20 ms and more where threads run; in a cycle all stores would be told of meanwhile. */
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/heap_test.h"

static long membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }

static void the_first_cycle_need_not_wait_for_the_system(void **state) {
  (void)state;
  long commands = membarrier(MEMBARRIER_CMD_QUERY);
  if (commands < 0 || (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) skip();
  assert_int_equal(test_stats().collections, 0);
  assert_int_equal(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_cycle_need_not_wait_for_the_system)};
  struct midden_options options = {.size = sizeof options, .mode = MIDDEN_MODE_BARRIER};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  return test_run_group(tests);
}
