/* The nth call of the operating system fails, for each n.
 *
 * A fixed piece of work runs in a child: it starts the library, allocates every kind of object, some under a heap profile,
 * uses finalizers, weak links and tables, roots, threads and stacks, collects, gives memory back.  One request for memory, address space or a
 * thread fails, or that and all later ones.  Each call of the library must then either do its work or return what its
 * contract names for a lack of memory; what was allocated stays intact, and the child ends by itself.
 *
 * MIDDEN_TEST_STEPS is the largest n. */
#include "support/heap_test.h"

#include <pthread.h>

#include "os/os.h"

enum { CHILD_SECONDS = 30, KEPT = 4000, PROFILED = 200, WEAK_LINKS = 500 };

struct failure {
  uint32_t nth;
  bool forever;
};

/* ---- the work ---- */

struct kept {
  struct kept *next;
  uint64_t *body; /* an object without pointers */
  size_t words;
};

static const uint64_t kept_pointers[] = {3};
static const struct midden_type kept_type = {.name = "kept", .size = sizeof(struct kept), .pointers = kept_pointers};
static struct kept *kept_list; /* static data: a root */
static void *added_roots[64];
static void *weak_words[WEAK_LINKS];
static struct rng rng;
static size_t refusals;   /* calls that said that there is no memory */
static size_t finalizers; /* atomic */

/* 0 or a lack of memory; everything else is a defect. */
static bool worked(const char *what, int error) {
  REQUIRE(error >= 0 || error == -ENOMEM || error == -EAGAIN, "%s: %d", what, error);
  refusals += error < 0;
  return error >= 0;
}

static void keep_one(void) {
  struct kept *kept = midden_alloc_type(&kept_type);
  if (kept == NULL) {
    refusals++;
    return;
  }
  kept->words = rng_size(&rng, rng_one_in(&rng, 200) ? 40000 : 100);
  kept->body = midden_alloc_data(kept->words * 8);
  if (kept->body == NULL) {
    refusals++;
    return;
  }
  for (size_t i = 0; i < kept->words; i++) kept->body[i] = test_mix(i ^ kept->words);
  kept->next = kept_list;
  kept_list = kept;
}

static void check_kept(void) {
  for (const struct kept *kept = kept_list; kept != NULL; kept = kept->next) {
    for (size_t i = 0; i < kept->words; i++) {
      REQUIRE(kept->body[i] == test_mix(i ^ kept->words), "object %p is damaged", (void *)kept->body);
    }
  }
}

static void drop_half(void) {
  for (struct kept *kept = kept_list; kept != NULL && kept->next != NULL; kept = kept->next)
    kept->next = kept->next->next;
}

static void clean_up(void *argument) { __atomic_fetch_add(&finalizers, argument == NULL, __ATOMIC_RELAXED); }

static void finalize(void *object, void *argument) {
  REQUIRE(midden_base(object) == object, "finalizer called for %p, no object", object);
  clean_up(argument);
}

static void use_specials(void) {
  for (size_t i = 0; i < WEAK_LINKS; i++) {
    void *object = midden_alloc(32);
    if (object == NULL) continue;
    weak_words[i] = (void *)test_hide(object);
    worked("midden_weak_link", midden_weak_link(&weak_words[i], object, MIDDEN_WEAK_BEFORE_FINALIZERS));
    worked("midden_finalizer_set", midden_finalizer_set(object, finalize, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL));
  }
}

static void trace_nothing(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)object, (void)slot_bytes, (void)tracer, (void)argument;
}

static void use_kinds_and_roots(void) {
  struct midden_kind_options options = {.size = sizeof(options), .name = "fault", .trace = trace_nothing};
  int kind = midden_kind_new(&options);
  if (worked("midden_kind_new", kind)) refusals += midden_alloc_kind((midden_kind)kind, 100) == NULL;
  for (size_t i = 0; i < TEST_COUNT_OF(added_roots); i += 2) {
    worked("midden_root_add", midden_root_add(&added_roots[i], &added_roots[i + 1]));
  }
  void *root = midden_alloc_root(500);
  void *grown = midden_realloc(root, 50000);
  refusals += root == NULL || grown == NULL;
  midden_free(grown != NULL ? grown : root);
  refusals += midden_alloc_aligned(MIDDEN_DATA, 1 << 16, 100) == NULL;
}

static void use_weak_objects(void) {
  struct midden_weak_table *table = midden_weak_table_new();
  refusals += table == NULL;
  for (size_t i = 0; i < WEAK_LINKS; i++) {
    void *key = midden_alloc(32);
    if (key == NULL) continue;
    worked("midden_cleanup_add", midden_cleanup_add(key, clean_up, NULL, NULL));
    struct midden_weak *weak = midden_weak_new(key);
    REQUIRE(weak == NULL || midden_weak_get(weak) == key, "a weak reference to another target");
    struct midden_ephemeron *ephemeron = midden_ephemeron_new(key, table);
    REQUIRE(ephemeron == NULL || midden_ephemeron_value(ephemeron) == table, "an ephemeron with another value");
    refusals += weak == NULL || ephemeron == NULL;
    if (table == NULL || !worked("midden_weak_table_set", midden_weak_table_set(table, key, weak))) continue;
    REQUIRE(midden_weak_table_get(table, key) == weak, "a table with another value");
  }
}

static void *yield_twice(void *argument) { return midden_fiber_yield(midden_fiber_yield(argument)); }

static void use_fibers(void) {
  struct midden_fiber *fibers[20] = {NULL};
  for (size_t i = 0; i < TEST_COUNT_OF(fibers); i++) {
    fibers[i] = midden_fiber_new(yield_twice, &fibers[i], i << 14);
    refusals += fibers[i] == NULL;
    if (fibers[i] == NULL) continue;
    void *result = NULL;
    REQUIRE(midden_fiber_resume(fibers[i], NULL, &result) == 0 && result == &fibers[i], "a fiber does not run");
  }
  midden_collect();
  for (size_t i = 0; i < TEST_COUNT_OF(fibers); i++) {
    if (fibers[i] == NULL) continue;
    REQUIRE(midden_fiber_resume(fibers[i], NULL, NULL) == 0, "a fiber does not go on");
    if (i % 2 == 0) REQUIRE(midden_fiber_free(fibers[i]) == 0, "midden_fiber_free");
  }
}

static void use_stacks(void) {
  static char bytes[4096];
  for (size_t i = 0; i < 20; i++) {
    struct midden_stack *own = midden_stack_alloc(i << 14),
                        *given = midden_stack_register(bytes, bytes + sizeof(bytes));
    refusals += own == NULL || given == NULL;
    REQUIRE(midden_stack_free(own) == 0 && midden_stack_free(given) == 0, "midden_stack_free");
  }
}

static void use_lists(void) {
  for (size_t bytes = 1; bytes < 100000; bytes *= 3) {
    void *list;
    size_t count = midden_alloc_many(MIDDEN_CONSERVATIVE, bytes, &list);
    refusals += count == 0;
    for (; list != NULL; list = *(void **)list) count--;
    REQUIRE(count == 0, "a list of another length");
    refusals += midden_alloc_array(&kept_type, bytes / 8) == NULL;
  }
}

/* A range is split; where there is no memory for that nothing is taken out. */
static void use_ranges(void) {
  worked("midden_root_add", midden_root_add(added_roots, added_roots + TEST_COUNT_OF(added_roots)));
  for (size_t i = 0; i + 1 < TEST_COUNT_OF(added_roots); i += 2) {
    midden_root_remove(&added_roots[i], &added_roots[i + 1]);
    worked("midden_root_exclude", midden_root_exclude(&added_roots[i], &added_roots[i + 1]));
  }
}

/* One that finds no memory to attach itself ends at once. */
static void use_dispatcher(void) {
  if (!worked("midden_dispatcher_start", midden_dispatcher_start())) return;
  midden_collect();
  int error = midden_dispatcher_stop();
  REQUIRE(error == 0 || error == -ESRCH, "midden_dispatcher_stop: %d", error);
}

static void *thread_work(void *argument) {
  int error = midden_thread_attach();
  REQUIRE(error == 0 || error == -ENOMEM, "midden_thread_attach: %d", error);
  uint64_t *words = midden_alloc(4096);
  REQUIRE(error == 0 || words == NULL || midden_thread_is_attached(), "an unattached thread allocates");
  for (size_t i = 0; words != NULL && i < 512; i++) words[i] = i << 48;
  if (words != NULL) midden_collect();
  for (size_t i = 0; words != NULL && i < 512; i++) REQUIRE(words[i] == i << 48, "a thread's object is damaged");
  return argument;
}

static void use_threads(void) {
  pthread_t threads[3];
  for (size_t i = 0; i < TEST_COUNT_OF(threads); i++) {
    REQUIRE(pthread_create(&threads[i], NULL, thread_work, NULL) == 0, "pthread_create");
  }
  for (size_t i = 0; i < TEST_COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
}

/* What there is no memory for is missing in the profile, and counted. */
static bool check_bucket(const struct midden_profile_bucket *bucket, void *argument) {
  REQUIRE(bucket->samples_freed <= bucket->samples_allocated, "more was freed than allocated");
  *(uint64_t *)argument += bucket->samples_allocated;
  return true;
}

static void check_profile(uint64_t objects_before) {
  uint64_t samples = midden_profile_lost(), objects = test_stats().objects_allocated - objects_before;
  refusals += samples != 0;
  midden_profile_visit(check_bucket, &samples);
  REQUIRE(samples == objects, "%" PRIu64 " samples of %" PRIu64 " objects", samples, objects);
  REQUIRE(midden_profile_stop() == 0, "midden_profile_stop");
}

static int start(void) {
  struct midden_options options = {.size = sizeof(options), .markers = 3, .min_heap_bytes = 1 << 20};
  return midden_init(&options);
}

static void work(void) {
  bool profiles = worked("midden_profile_start", midden_profile_start(1));
  uint64_t objects_before = test_stats().objects_allocated;
  for (int i = 0; i < PROFILED; i++) keep_one();
  if (profiles) check_profile(objects_before);
  for (int i = PROFILED; i < KEPT; i++) keep_one();
  use_kinds_and_roots();
  use_specials();
  use_weak_objects();
  use_fibers();
  use_stacks();
  use_lists();
  use_ranges();
  use_dispatcher();
  midden_collect();
  check_kept();
  drop_half();
  midden_finalizers_run(SIZE_MAX);
  use_threads();
  worked("midden_reserve", midden_reserve(8 << 20));
  midden_release_memory();
  for (int i = 0; i < KEPT; i++) keep_one();
  midden_collect();
  check_kept();
}

/* ---- one child ---- */

/* Once the failures are over the heap works like any other. */
static void recover(void) {
  test_collect_clean();
  REQUIRE(midden_alloc(100) != NULL && midden_alloc(1 << 20) != NULL, "no memory though the failures are over");
  check_kept();
  midden_verify();
}

/* Tells the parent by its status whether anything was refused: 0 no, 2 yes. */
static int child(void *argument) {
  const struct failure *failure = argument;
  os_fail_after(failure->nth, failure->forever);
  bool started = worked("midden_init", start());
  if (started) work();
  os_fail_after(0, false);
  int again = started ? 0 : start();
  REQUIRE(again == 0 || again == -EALREADY, "midden_init: %d, though the failures are over", again);
  recover();
  return refusals == 0 ? 0 : 2;
}

/* ---- all of them ---- */

static bool try_failure(uint32_t nth, bool forever) {
  struct failure failure = {nth, forever};
  struct test_outcome outcome = test_child(child, &failure, CHILD_SECONDS);
  int code = WIFEXITED(outcome.status) ? WEXITSTATUS(outcome.status) : -1;
  REQUIRE(code == 0 || code == 2, "call %u fails%s: child ended with status 0x%x: %s", nth, forever ? " for ever" : "",
          (unsigned)outcome.status, outcome.message);
  return code == 2;
}

int main(void) {
  rng = test_start("test_os_failures");
  uint32_t last = (uint32_t)test_steps(60);
  size_t refused[2] = {0, 0};
  for (uint32_t nth = 1; nth <= last; nth++) {
    for (int forever = 0; forever < 2; forever++) refused[forever] += try_failure(nth, forever);
  }
  REQUIRE(!try_failure(0, false), "memory was refused though nothing failed");
  printf("test_os_failures: %u calls failed once, %zu felt by the program; for ever, %zu felt\n", last, refused[0],
         refused[1]);
  REQUIRE(refused[1] != 0, "no failure ever reached the program: nothing was tested");
  return 0;
}
