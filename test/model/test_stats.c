/* The figures against independent counts: what this program allocated and freed by its own books, and what
 * midden_each_object finds in the heap.  Each step does something at random; then every equation is checked. */
#include <pthread.h>

#include "support/heap_test.h"

#include "page/span.h"
#include "span/size_class.h"

enum { HELD = 4096, CLASSES_MAX = 256 };

/* This program's own books.  The arrays lie in malloc's memory, so that only the roots that the program means keep
 * objects alive. */
static struct books {
  void **held;   /* a root */
  size_t *bytes; /* what midden_size says of each */
  uint64_t allocated, allocated_objects, allocated_large, large_objects;
  uint64_t freed, freed_objects;
  uint64_t tiny;
  struct rng rng;
} books;

struct count {
  size_t objects, bytes, scannable, large;
};

static void count_object(void *object, size_t slot_bytes, midden_kind kind, void *argument) {
  struct count *count = argument;
  (void)object;
  count->objects++;
  count->bytes += slot_bytes;
  bool data = kind == MIDDEN_DATA || kind == MIDDEN_RAW || kind == MIDDEN_ROOT_DATA;
  if (!data) count->scannable += slot_bytes;
  if (slot_bytes > SIZE_CLASS_MAX_BYTES) count->large++;
}

static struct count count_objects(void) {
  struct count count = {0};
  midden_each_object(count_object, &count);
  return count;
}

#define SAME(a, b) REQUIRE((uint64_t)(a) == (uint64_t)(b), "%" PRIu64 " != %" PRIu64, (uint64_t)(a), (uint64_t)(b))

static void check_classes(const struct midden_stats *stats) {
  struct midden_class_stats classes[CLASSES_MAX], sum = {0};
  size_t count = midden_stats_classes(classes, CLASSES_MAX);
  SAME(count, SIZE_CLASS_COUNT);
  for (size_t i = 0; i < count; i++) {
    SAME(classes[i].slot_bytes, size_class_bytes[i]);
    SAME(classes[i].allocated - classes[i].freed, classes[i].in_use);
    if (i != 0) SAME(classes[i].in_use_bytes, classes[i].in_use * classes[i].slot_bytes);
    if (i != 0) SAME(classes[i].span_bytes, classes[i].spans * size_class_pages[i] * PAGE_BYTES);
    REQUIRE(classes[i].in_use_bytes <= classes[i].span_bytes, "class %zu: more objects than room", i);
    sum.spans += classes[i].spans;
    sum.span_bytes += classes[i].span_bytes;
    sum.in_use += classes[i].in_use;
    sum.in_use_bytes += classes[i].in_use_bytes;
    sum.allocated += classes[i].allocated;
    sum.freed += classes[i].freed;
    REQUIRE(classes[i].scannable <= classes[i].in_use, "class %zu: more scannable than living", i);
  }
  SAME(sum.spans, stats->heap_spans);
  SAME(sum.span_bytes, stats->heap_in_use);
  SAME(sum.in_use, stats->objects);
  SAME(sum.in_use_bytes, stats->object_bytes);
  SAME(sum.allocated, stats->objects_allocated);
  SAME(sum.freed, stats->objects_freed);
  SAME(classes[0].allocated, stats->objects_allocated_large);
  SAME(classes[0].freed, stats->objects_freed_large);
  SAME(classes[0].in_use_bytes, stats->allocated_large - stats->freed_large);
}

static void check_pauses(const struct midden_stats *stats) {
  struct midden_pauses pauses = {.size = sizeof pauses};
  uint64_t count = 0, least = 0;
  midden_pauses(&pauses);
  for (size_t i = 0; i < MIDDEN_PAUSE_BUCKETS; i++) {
    count += pauses.pauses[i];
    least += pauses.pauses[i] * pauses.limit_ns[i];
    if (pauses.max_ns >= pauses.limit_ns[i] &&
        (i + 1 == MIDDEN_PAUSE_BUCKETS || pauses.max_ns < pauses.limit_ns[i + 1]))
      REQUIRE(pauses.count == 0 || pauses.pauses[i] != 0, "the longest pause is in no bucket");
  }
  SAME(count, stats->collections);
  SAME(pauses.count, stats->collections);
  SAME(pauses.total_ns, stats->pause_total_ns);
  REQUIRE(least <= pauses.total_ns && pauses.last_ns <= pauses.max_ns && pauses.max_ns <= pauses.total_ns,
          "pauses do not add up");
}

static void check_equations(void) {
  struct count count = count_objects();
  struct midden_stats stats = test_stats();
  SAME(stats.heap_in_use + stats.heap_idle + stats.stacks, stats.heap_system);
  REQUIRE(stats.heap_released + stats.heap_fresh <= stats.heap_idle, "more pages absent than idle");
  SAME(count.objects, stats.objects);
  SAME(count.bytes, stats.object_bytes);
  SAME(count.scannable, stats.scannable_bytes);
  SAME(count.large, stats.objects_allocated_large - stats.objects_freed_large);
  SAME(stats.objects_allocated - stats.objects_freed, stats.objects);
  SAME(stats.allocated - stats.freed, stats.object_bytes);
  SAME(stats.metadata_spans + stats.metadata_tables + stats.metadata_bits + stats.metadata_threads +
           stats.metadata_marking + stats.metadata_specials + stats.metadata_other,
       stats.metadata);
  SAME(stats.marking_cpu_ns + stats.sweeping_cycle_ns + stats.sweeping_allocation_ns + stats.sweeping_background_ns +
           stats.releasing_ns,
       stats.collector_cpu_ns);
  SAME(stats.collections_heap + stats.collections_forced + stats.collections_out_of_memory + stats.collections_stress +
           stats.collections_idle,
       stats.collections);
  check_classes(&stats);
  check_pauses(&stats);
}

/* By this program's own books. */
static void check_books(void) {
  struct midden_stats stats = test_stats();
  SAME(stats.objects_allocated, books.allocated_objects);
  SAME(stats.allocated, books.allocated);
  SAME(stats.objects_allocated_large, books.large_objects);
  SAME(stats.allocated_large, books.allocated_large);
  SAME(stats.objects_freed_explicitly, books.freed_objects);
  SAME(stats.freed_explicitly, books.freed);
  SAME(stats.tiny_allocations, books.tiny);
}

/* ---- steps ---- */

static void enter(void *object, size_t index) {
  size_t bytes = midden_size(object);
  REQUIRE(object != NULL && bytes != 0, "no object");
  books.held[index] = object;
  books.bytes[index] = bytes;
  books.allocated += bytes;
  books.allocated_objects++;
  if (bytes > SIZE_CLASS_MAX_BYTES) {
    books.large_objects++;
    books.allocated_large += bytes;
  }
}

static void drop(size_t index) { books.held[index] = NULL; }

static size_t draw_size(void) {
  return rng_one_in(&books.rng, 200) ? 16 + rng_size(&books.rng, 200000) : 9 + rng_size(&books.rng, 2000);
}

static void step_alloc(size_t index) {
  static const midden_kind kinds[] = {MIDDEN_DATA, MIDDEN_CONSERVATIVE, MIDDEN_RAW, MIDDEN_ROOT, MIDDEN_ROOT_DATA};
  midden_kind kind = kinds[rng_below(&books.rng, rng_one_in(&books.rng, 4) ? 5 : 3)];
  enter(midden_alloc_kind(kind, draw_size()), index);
}

static void step_free(size_t index) {
  if (books.held[index] == NULL) return;
  books.freed += books.bytes[index];
  books.freed_objects++;
  midden_free(books.held[index]);
  drop(index);
}

/* The second of two shares the first one's slot. */
static void step_tiny(void) {
  for (int i = 0; i < 3; i++) REQUIRE(midden_alloc_data(1 + rng_below(&books.rng, 8)) != NULL, "no tiny object");
  uint64_t slots_before = (books.tiny + 1) / 2, slots = (books.tiny + 4) / 2;
  books.tiny += 3;
  books.allocated_objects += slots - slots_before;
  books.allocated += 16 * (slots - slots_before);
}

static void step_many(void) {
  void *list;
  size_t count = midden_alloc_many(MIDDEN_CONSERVATIVE, draw_size() / 8, &list);
  REQUIRE(count != 0, "no list");
  size_t bytes = midden_size(list);
  books.allocated += count * bytes;
  books.allocated_objects += count;
}

static void step(void) {
  size_t index = rng_below(&books.rng, HELD);
  switch (rng_below(&books.rng, 16)) {
    case 0:
      step_tiny();
      break;
    case 1:
      step_many();
      break;
    case 2:
    case 3:
    case 4:
      step_free(index);
      break;
    default:
      step_alloc(index);
  }
  if (rng_one_in(&books.rng, 20000)) midden_collect();
  if (rng_one_in(&books.rng, 40000)) midden_release_memory();
}

/* ---- a thread that comes, counts, and goes ---- */

enum { THREAD_OBJECTS = 1000 };

static void *visit_heap(void *argument) {
  (void)argument;
  for (int i = 0; i < THREAD_OBJECTS; i++) {
    void *object = midden_alloc(48);
    REQUIRE(object != NULL, "no object");
    if (i % 2 == 0) midden_free(object);
  }
  REQUIRE(midden_alloc_data(4) != NULL, "no tiny object");
  return NULL;
}

/* What a thread counted stays counted when it ends, and what was left of its windows was never allocated. */
static void check_thread(void) {
  pthread_t thread;
  struct midden_stats before = test_stats();
  REQUIRE(pthread_create(&thread, NULL, visit_heap, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  struct midden_stats after = test_stats();
  SAME(after.objects_allocated - before.objects_allocated, THREAD_OBJECTS + 1);
  SAME(after.allocated - before.allocated, THREAD_OBJECTS * 48 + 16);
  SAME(after.objects_freed_explicitly - before.objects_freed_explicitly, THREAD_OBJECTS / 2);
  SAME(after.tiny_allocations - before.tiny_allocations, 1);
  SAME(after.threads, before.threads);
  check_equations();
}

static void check_sizes(void) {
  struct midden_class_stats one = {.slot_bytes = 1}, two[2] = {{0}, {.slot_bytes = 77}};
  SAME(midden_stats_classes(NULL, 0), SIZE_CLASS_COUNT);
  SAME(midden_stats_classes(NULL, 5), SIZE_CLASS_COUNT);
  midden_stats(NULL);
  midden_pauses(NULL);
  SAME(midden_stats_classes(&one, 1), SIZE_CLASS_COUNT);
  SAME(one.slot_bytes, 0);
  midden_stats_classes(two, 1);
  SAME(two[1].slot_bytes, 77);
  struct midden_pauses pauses = {.size = offsetof(struct midden_pauses, max_ns), .max_ns = 77};
  midden_pauses(&pauses);
  SAME(pauses.max_ns, 77);
  pauses.size = sizeof pauses;
  midden_pauses(&pauses);
  SAME(pauses.limit_ns[0], 0);
  SAME(pauses.limit_ns[1], 1000);
  SAME(pauses.limit_ns[3], 2000);
  for (size_t i = 1; i < MIDDEN_PAUSE_BUCKETS; i++)
    REQUIRE(pauses.limit_ns[i] > pauses.limit_ns[i - 1], "bucket %zu is empty by definition", i);
}

/* ---- marked by hand, which the collector found nowhere ---- */

static struct {
  uintptr_t hidden[3];
  bool active;
  uint64_t readings;
} hand;

static void mark_hidden(struct midden_tracer *tracer, void *argument) {
  (void)tracer, (void)argument;
  for (size_t i = 0; hand.active && i < TEST_COUNT_OF(hand.hidden); i++) {
    midden_mark(test_unhide(hand.hidden[i]));
    midden_mark((char *)test_unhide(hand.hidden[i]) + 1); /* marked already: counts once */
  }
}

NOINLINE_TEST static void hide_three(void) {
  hand.hidden[0] = test_hide(midden_alloc(100));
  hand.hidden[1] = test_hide(midden_alloc_data(200));
  hand.hidden[2] = test_hide(midden_alloc_data(100000));
}

NOINLINE_TEST static void check_hidden_live(void) {
  for (size_t k = 0; k < TEST_COUNT_OF(hand.hidden); k++)
    REQUIRE(midden_owns(test_unhide(hand.hidden[k])), "object %zu died, though it was marked", k);
}

static void check_marked_by_hand(void) {
  hide_three();
  midden_set_root_callback(mark_hidden, NULL);
  hand.active = true;
  for (int i = 0; i < 3; i++) {
    test_collect_clean();
    check_hidden_live();
    check_equations();
    midden_verify();
  }
  hand.active = false;
  midden_mark(test_unhide(hand.hidden[0])); /* no collection runs: does nothing */
  struct midden_stats before = test_stats();
  test_collect_clean();
  struct midden_stats after = test_stats();
  check_equations();
  REQUIRE(after.freed - before.freed >= 100000, "what is marked no longer was not freed");
  midden_set_root_callback(NULL, NULL);
}

/* ---- in places where the world is stopped, or a copy ---- */

static void read_in_event(enum midden_event event, void *argument) {
  struct midden_stats stats = test_stats();
  (void)event, (void)argument;
  SAME(stats.heap_in_use + stats.heap_idle + stats.stacks, stats.heap_system);
  SAME(stats.objects_allocated - stats.objects_freed, stats.objects);
  struct midden_pauses pauses = {.size = sizeof pauses};
  midden_pauses(&pauses);
  SAME(pauses.count, stats.collections);
  hand.readings++;
}

static void check_events(void) {
  midden_set_event_callback(read_in_event, NULL);
  midden_collect();
  midden_set_event_callback(NULL, NULL);
  REQUIRE(hand.readings == MIDDEN_EVENT_END + 1, "%" PRIu64 " readings", hand.readings);
  midden_world_stop();
  struct midden_stats stats = test_stats();
  midden_world_resume();
  SAME(stats.objects_allocated - stats.objects_freed, stats.objects);
}

static int count_in_child(void *argument) {
  (void)argument;
  check_books();
  check_equations();
  midden_collect();
  for (int i = 0; i < 1000; i++) step();
  check_books();
  check_equations();
  return 0;
}

/* Threads of the parent that the child has not are counted to their end. */
static void *wait_for_end(void *argument) {
  for (int i = 0; i < 100; i++) REQUIRE(midden_alloc(24) != NULL, "no object");
  pthread_barrier_wait(argument);
  pthread_barrier_wait(argument);
  return NULL;
}

static void check_fork(void) {
  pthread_t thread;
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, 2);
  REQUIRE(pthread_create(&thread, NULL, wait_for_end, &barrier) == 0, "pthread_create");
  pthread_barrier_wait(&barrier);
  books.allocated_objects += 100;
  books.allocated += 100 * 32;
  test_child_succeeds("a child", count_in_child, NULL, 20);
  check_books();
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  check_books();
  check_equations();
}

static uint64_t read_before; /* objects by the figures, before the books are opened */

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* the books below count slots as they are without guards */
  books.rng = test_start("test_stats");
  /* The background thread frees spans between two questions. */
  struct midden_options options = {.size = sizeof options, .background = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  size_t steps = test_steps(120000);
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  read_before = test_stats().objects_allocated;
  SAME(read_before, 0);
  books.held = calloc(HELD, sizeof *books.held);
  books.bytes = calloc(HELD, sizeof *books.bytes);
  REQUIRE(midden_root_add(books.held, books.held + HELD) == 0, "midden_root_add");
  check_equations();
  for (size_t i = 0; i < steps; i++) {
    step();
    if (rng_one_in(&books.rng, 500)) {
      check_books();
      check_equations();
    }
  }
  midden_collect();
  check_books();
  check_equations();
  check_fork();
  check_thread();
  check_sizes();
  check_marked_by_hand();
  check_events();
  midden_verify();
  struct midden_stats stats = test_stats();
  REQUIRE(stats.objects_freed > stats.objects_freed_explicitly && stats.collections > 1, "nothing was reclaimed");
  printf("test_stats: %" PRIu64 " objects, %" PRIu64 " freed, %" PRIu64 " collections\n", stats.objects_allocated,
         stats.objects_freed, stats.collections);
  return 0;
}
