/* Lists of objects without pointers, as a runtime's inline allocator keeps them, while other threads collect.
 *
 * Each thread has a holder with the head of a list from midden_alloc_many; the holder's trace function walks the links,
 * since the collector does not read objects without pointers.  A thread takes elements off its list, stamps them, keeps
 * the latest in its holder and checks their stamps when they are replaced: an element that was handed out twice is seen.
 *
 * Guards against: a collection between the making of a list and its storing, which saw only the first element. */
#include <pthread.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

enum { THREADS = 3, KEPT = 1024 };

struct element {
  struct element *next; /* while on a list */
  uint64_t stamp;
};

struct holder {
  void *list;
  struct element *kept[KEPT];
};

static int holder_kind;
static size_t steps;
static int running; /* atomic */

static void trace_holder(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)slot_bytes, (void)argument;
  const struct holder *holder = object;
  const struct element *first = __atomic_load_n((const struct element *const *)&holder->list, __ATOMIC_ACQUIRE);
  for (const struct element *element = first; element != NULL; element = element->next) midden_trace(tracer, element);
  midden_trace_range(tracer, holder->kept, holder->kept + KEPT);
}

static struct element *take(struct holder *holder) {
  if (holder->list == NULL) {
    size_t count = midden_alloc_many(MIDDEN_RAW, sizeof(struct element), &holder->list);
    REQUIRE(count != 0 && holder->list != NULL, "out of memory");
  }
  struct element *element = holder->list;
  /* In this order: the element is in a register when it leaves the list. */
  midden_store(&holder->list, element->next);
  return element;
}

static void *churn(void *argument) {
  uint64_t first_stamp = rng_next(argument) >> 24 | 1; /* odd: no address; far from the other threads' */
  struct holder *holder = midden_alloc_kind((midden_kind)holder_kind, sizeof *holder);
  REQUIRE(holder != NULL, "out of memory");
  for (size_t i = 0; i < steps; i++) {
    struct element *element = take(holder);
    uint64_t stamp = first_stamp + 2 * i;
    element->stamp = stamp;
    struct element *old = holder->kept[i % KEPT];
    midden_store(&holder->kept[i % KEPT], element);
    REQUIRE(old == NULL || old->stamp == stamp - 2 * KEPT, "element %p was handed out twice", (void *)old);
  }
  midden_free(holder);
  __atomic_sub_fetch(&running, 1, __ATOMIC_ACQ_REL);
  return NULL;
}

int main(void) {
  struct rng rng = test_start("test_many");
  pthread_t threads[THREADS];
  struct rng seeds[THREADS];
  steps = test_steps(4000000);
  alarm(240); /* a hang is a failure too */
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  struct midden_kind_options options = {.size = sizeof options, .name = "holder", .trace = trace_holder, .root = true};
  holder_kind = midden_kind_new(&options);
  REQUIRE(holder_kind > 0, "midden_kind_new: %d", holder_kind);
  running = THREADS;
  for (size_t i = 0; i < THREADS; i++) {
    seeds[i].state = rng_next(&rng);
    REQUIRE(pthread_create(&threads[i], NULL, churn, &seeds[i]) == 0, "pthread_create");
  }
  /* Back to back: the library lets the threads run in between. */
  while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) != 0) midden_collect();
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  midden_verify();
  printf("test_many: %zu elements, %" PRIu64 " collections\n", THREADS * steps, test_stats().collections);
  return 0;
}
