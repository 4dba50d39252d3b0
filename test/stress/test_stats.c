/* Figures read while threads allocate, free, collect, come and go: nothing counts backwards, no more is freed than
 * allocated, the pages add up, and when all is quiet everything does.
 *
 * Objects go from thread to thread: one allocates, another frees, so that a reader who saw the free and not the
 * allocation would be found out. */
#include <pthread.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

enum { CHURNERS = 3, EXCHANGE = 512, CLASSES_MAX = 256, VISITOR_OBJECTS = 300 };

static void **exchange; /* atomic slots; a root */
static size_t steps;
static uint32_t running; /* atomic */
static uint64_t reads;

/* What is allocated in one thread is often freed in the next. */
static void *churn(void *argument) {
  struct rng *rng = argument;
  for (size_t i = 0; i < steps; i++) {
    size_t bytes = rng_one_in(rng, 300) ? 40000 + rng_below(rng, 40000) : 1 + rng_below(rng, 300);
    void *fresh = rng_one_in(rng, 2) ? midden_alloc(bytes) : midden_alloc_data(bytes);
    REQUIRE(fresh != NULL, "no object");
    /* Tiny objects stay: midden_free leaves them to the collector. */
    void *old = midden_exchange(&exchange[rng_below(rng, EXCHANGE)], fresh);
    if (rng_one_in(rng, 2)) midden_free(old);
    if (rng_one_in(rng, 50000)) midden_collect();
  }
  __atomic_sub_fetch(&running, 1, __ATOMIC_ACQ_REL);
  return NULL;
}

static void *visit(void *argument) {
  (void)argument;
  for (int i = 0; i < VISITOR_OBJECTS; i++) REQUIRE(midden_alloc(64) != NULL, "no object");
  return NULL;
}

/* Threads that come and go: what they counted moves to another place. */
static void *visitors(void *argument) {
  (void)argument;
  while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) != 0) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, visit, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
  }
  return NULL;
}

#define GROWS(field) \
  REQUIRE(now->field >= before->field, #field " fell from %" PRIu64 " to %" PRIu64, before->field, now->field)

static void check_growth(const struct midden_stats *before, const struct midden_stats *now) {
  GROWS(allocated);
  GROWS(allocated_large);
  GROWS(freed);
  GROWS(freed_large);
  GROWS(freed_explicitly);
  GROWS(objects_allocated);
  GROWS(objects_allocated_large);
  GROWS(objects_freed);
  GROWS(objects_freed_large);
  GROWS(objects_freed_explicitly);
  GROWS(collections);
  GROWS(pause_total_ns);
  GROWS(pause_max_ns);
  GROWS(collector_cpu_ns);
  REQUIRE(now->tiny_allocations + 2 * CHURNERS >= before->tiny_allocations, "tiny allocations fell by more than a few");
}

static void check_one(const struct midden_stats *now) {
  REQUIRE(now->heap_in_use + now->heap_idle + now->stacks == now->heap_system, "pages do not add up");
  REQUIRE(now->heap_released + now->heap_fresh <= now->heap_idle, "more pages absent than idle");
  REQUIRE(now->freed <= now->allocated && now->objects_freed <= now->objects_allocated &&
              now->freed_large <= now->allocated_large && now->objects_freed_large <= now->objects_allocated_large,
          "more is freed than allocated");
  REQUIRE(now->objects == now->objects_allocated - now->objects_freed, "objects do not add up");
  REQUIRE(now->object_bytes == now->allocated - now->freed, "bytes do not add up");
  REQUIRE(now->scannable_bytes <= now->object_bytes, "more is scannable than lives");
  REQUIRE(now->collections_heap + now->collections_forced + now->collections_out_of_memory + now->collections_stress +
                  now->collections_idle ==
              now->collections,
          "collections do not add up");
  REQUIRE(now->pause_last_ns <= now->pause_max_ns && now->pause_max_ns <= now->pause_total_ns, "pauses do not fit");
}

static void check_classes(void) {
  static struct midden_class_stats before[CLASSES_MAX];
  struct midden_class_stats now[CLASSES_MAX];
  size_t count = midden_stats_classes(now, CLASSES_MAX);
  for (size_t i = 0; i < count; i++) {
    REQUIRE(now[i].allocated >= before[i].allocated && now[i].freed >= before[i].freed, "class %zu runs backwards", i);
    REQUIRE(now[i].allocated - now[i].freed == now[i].in_use && now[i].scannable <= now[i].in_use,
            "class %zu does not add up", i);
    before[i] = now[i];
  }
}

static void check_pauses(void) {
  struct midden_pauses pauses = {.size = sizeof pauses};
  uint64_t count = 0;
  midden_pauses(&pauses);
  for (size_t i = 0; i < MIDDEN_PAUSE_BUCKETS; i++) count += pauses.pauses[i];
  REQUIRE(count == pauses.count, "%" PRIu64 " pauses in buckets, %" PRIu64 " in all", count, pauses.count);
}

static void watch(void) {
  struct midden_stats before = test_stats();
  while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) != 0) {
    struct midden_stats now = test_stats();
    check_one(&now);
    check_growth(&before, &now);
    check_classes();
    check_pauses();
    before = now;
    reads++;
  }
}

static void count_object(void *object, size_t slot_bytes, midden_kind kind, void *argument) {
  uint64_t *counts = argument;
  (void)object, (void)kind;
  counts[0]++;
  counts[1] += slot_bytes;
}

static void check_quiet(void) {
  uint64_t counts[2] = {0, 0};
  midden_each_object(count_object, counts);
  struct midden_stats stats = test_stats();
  check_one(&stats);
  REQUIRE(stats.objects == counts[0] && stats.object_bytes == counts[1],
          "%" PRIu64 " objects of %" PRIu64 " bytes live, %zu of %zu by the figures", counts[0], counts[1],
          stats.objects, stats.object_bytes);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* the counts below are of slots as they are without guards */
  struct rng rng = test_start("stress/test_stats");
  struct rng seeds[CHURNERS];
  pthread_t threads[CHURNERS + 1];
  steps = test_steps(800000);
  alarm(240); /* a hang is a failure too */
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  exchange = calloc(EXCHANGE, sizeof *exchange);
  REQUIRE(exchange != NULL && midden_root_add(exchange, exchange + EXCHANGE) == 0, "midden_root_add");
  running = CHURNERS;
  for (size_t i = 0; i < CHURNERS; i++) {
    seeds[i].state = rng_next(&rng);
    REQUIRE(pthread_create(&threads[i], NULL, churn, &seeds[i]) == 0, "pthread_create");
  }
  REQUIRE(pthread_create(&threads[CHURNERS], NULL, visitors, NULL) == 0, "pthread_create");
  watch();
  for (size_t i = 0; i <= CHURNERS; i++) pthread_join(threads[i], NULL);
  check_quiet();
  midden_verify();
  printf("stress/test_stats: %" PRIu64 " readings, %" PRIu64 " collections\n", reads, test_stats().collections);
  return 0;
}
