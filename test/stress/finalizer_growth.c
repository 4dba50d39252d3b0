/* A program of whose garbage nearly all hangs on objects with finalizers, which run as they become ready: its heap stays small.  What
 * finalizers keep until they have run is no reason to let the heap grow. */
#include "midden/barrier.h"
#include "support/heap_test.h"

enum { CHAINS = 60000, CHAIN_NODES = 100, RUN_EVERY = 16 };
#define MOST_BYTES ((size_t)128 << 20) /* 384 MiB are allocated */

struct node {
  struct node *next;
  uintptr_t rest[7];
};

static size_t finalized;

static void count(void *object, void *argument) {
  (void)object, (void)argument;
  finalized++;
}

static NOINLINE_TEST void make_chain(void) {
  struct node *first = NULL;
  for (unsigned i = 0; i < CHAIN_NODES; i++) {
    struct node *node = midden_alloc(sizeof *node);
    REQUIRE(node != NULL, "out of memory");
    midden_store(&node->next, first);
    first = node;
  }
  REQUIRE(midden_finalizer_set(first, count, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0, "midden_finalizer_set");
}

int main(void) {
  test_start("finalizer_growth");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  for (unsigned i = 0; i < CHAINS; i++) {
    make_chain();
    if (i % RUN_EVERY == 0) midden_finalizers_run(SIZE_MAX);
  }
  size_t heap_bytes = test_stats().heap_system;
  printf("finalizer_growth: %zu of %d finalized, a heap of %zu MiB\n", finalized, CHAINS, heap_bytes >> 20);
  REQUIRE(finalized > CHAINS / 2, "%zu of %d finalized", finalized, CHAINS);
  REQUIRE(heap_bytes <= MOST_BYTES, "a heap of %zu MiB", heap_bytes >> 20);
  return 0;
}
