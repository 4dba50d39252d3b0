/* Programs may have floating-point operations trap, as Common Lisps do: nothing that the library computes may be invalid, too large
 * or a division by zero, however long it runs. */
#define _GNU_SOURCE 1
#include <fenv.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

enum { NODES = 2000, COLLECTIONS = 1500, GROWTH_BYTES = 256 << 20 };

struct node {
  struct node *next;
  char more[56];
};

static struct node *kept;

static void make_nodes(size_t count) {
  midden_store(&kept, NULL);
  for (size_t i = 0; i < count; i++) {
    struct node *node = midden_alloc(sizeof *node);
    REQUIRE(node != NULL, "out of memory");
    midden_store(&node->next, kept);
    midden_store(&kept, node);
  }
}

/* Collections by order, of a heap that stays as it is, and by growth, of one that grows and shrinks. */
static int collect_with_traps(void *argument) {
  struct midden_options options = {
      .size = sizeof options, .mode = *(enum midden_mode *)argument, .min_heap_bytes = 1 << 20};
  signal(SIGFPE, SIG_DFL);
  if (feenableexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW) == -1) return TEST_SKIPPED;
  if (midden_init(&options) != 0) return 1;
  make_nodes(NODES);
  for (int i = 0; i < COLLECTIONS; i++) midden_collect();
  for (size_t made = 0, count = NODES; made < GROWTH_BYTES; made += count * sizeof(struct node)) {
    count = count < 64 * NODES ? 2 * count : NODES;
    make_nodes(count);
  }
  return 0;
}

static void nothing_traps_in(enum midden_mode mode) {
  struct test_outcome outcome = test_child(collect_with_traps, &mode, 120);
  REQUIRE(WIFEXITED(outcome.status), "mode %d: status 0x%x: %s", mode, (unsigned)outcome.status, outcome.message);
  if (WEXITSTATUS(outcome.status) == TEST_SKIPPED) skip();
  assert_int_equal(WEXITSTATUS(outcome.status), 0);
}

static void nothing_traps(void **state) {
  (void)state;
  test_in_each_mode(nothing_traps_in);
}

int main(void) {
  test_start("unit/float_traps");
  const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_traps)};
  return test_run_group(tests);
}
