/* Large objects are cleared outside of critical sections: a collection finds some of them half cleared, and must read none
 * of what was there before as a type, as what a trace function knows, or, in check mode, as references. */
#include "support/heap_test.h"

#include <pthread.h>

enum { WORDS = 100000 }; /* not a whole number of pages */

struct element {
  void *reference;
  long number;
};

static const uint64_t element_pointers = 1;
static const struct midden_type element_type = {"element", sizeof(struct element), &element_pointers, NULL, NULL};
static bool done; /* atomic */
static midden_kind traced;

/* Memory is cleared from its start on, so the last word is looked at. */
static void trace_last(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)argument;
  void *last = ((void **)object)[slot_bytes / sizeof(void *) - 1];
  REQUIRE(last == NULL, "%p was there before", last);
  midden_trace(tracer, last);
}

static void *allocate_kind(int kind) {
  if (kind == 0) return midden_alloc_array(&element_type, WORDS / 2);
  return kind == 1 ? midden_alloc_kind(traced, WORDS * sizeof(void *)) : midden_alloc(WORDS * sizeof(void *));
}

/* References to an object that dies with this, and at the end what is no address at all. */
NOINLINE_TEST static void fill_old_memory(void) {
  uintptr_t *old = midden_alloc_data(WORDS * sizeof(*old));
  uintptr_t dead = (uintptr_t)midden_alloc(40);
  size_t count = midden_size(old) / sizeof(*old);
  for (size_t i = 0; i < count; i++) old[i] = i < WORDS ? dead : UINT64_C(0x4141414141414141);
  midden_free(old);
}

NOINLINE_TEST static void allocate_over_old_memory(int kind) {
  fill_old_memory();
  test_scrub_stack();
  uintptr_t *fresh = allocate_kind(kind);
  for (size_t i = 0; i < WORDS - 2; i += 97) REQUIRE(fresh[i] == 0, "word %zu is not cleared", i);
  midden_free(fresh);
}

static void *allocate(void *argument) {
  (void)argument;
  midden_thread_attach();
  for (size_t i = 0, steps = test_steps(2000); i < steps; i++) allocate_over_old_memory((int)(i % 3));
  __atomic_store_n(&done, true, __ATOMIC_RELEASE);
  return NULL;
}

int main(void) {
  test_start("test_clearing");
  struct midden_kind_options options = {.size = sizeof(options), .name = "traced", .trace = trace_last};
  traced = (midden_kind)midden_kind_new(&options);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, allocate, NULL) == 0, "no thread");
  while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) midden_collect();
  pthread_join(thread, NULL);
  printf("%zu collections\n", (size_t)test_stats().collections);
  return 0;
}
