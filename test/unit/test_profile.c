/* The heap profile: what is sampled, what a bucket counts, when, and how it is read.
 *
 * With a distance of 1 every object is sampled, so that the counts must be exact.  An object that nothing refers to may
 * still be kept by a stale word: how many did die is asked of the heap (midden_owns, before anything is allocated in their
 * places), and the profile must agree to the object.
 *
 * Each function that allocates lies in a section of its own, by which its frame is known. */
#include "support/heap_test.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>

#include <cmocka.h>

#include "alloc/cache.h"
#include "alloc/sample.h"
#include "base/atomic.h"
#include "gc/profile.h"
#include "os/os.h"
#include "span/object.h"

enum { CHILD_SECONDS = 60, OBJECTS = 1000, KEPT_MAX = 4 * OBJECTS };

/* ---- places that allocate ---- */

#define SITE(name) __attribute__((noinline, section("site_" #name)))
#define DECLARE_SITE(name) extern const char __start_site_##name[], __stop_site_##name[]
#define SITE_FIGURES(name) figures_of((uintptr_t)__start_site_##name, (uintptr_t)__stop_site_##name)

DECLARE_SITE(small);
DECLARE_SITE(other);
DECLARE_SITE(moved);
DECLARE_SITE(deep);

static void *kept[KEPT_MAX]; /* a root */
static uintptr_t *hidden;    /* their addresses, disguised, in memory of malloc */

SITE(small) static void alloc_small(size_t from, size_t count, size_t bytes) {
  for (size_t i = from; i < from + count; i++) {
    kept[i] = midden_alloc(bytes);
    hidden[i] = test_hide(kept[i]);
  }
}

SITE(other) static void alloc_other(size_t from, size_t count, midden_kind kind, size_t bytes) {
  for (size_t i = from; i < from + count; i++) {
    kept[i] = midden_alloc_kind(kind, bytes);
    hidden[i] = test_hide(kept[i]);
  }
}

SITE(moved) static void *move_object(void *object, size_t bytes) {
  void *moved = midden_realloc(object, bytes);
  __asm__ volatile("" ::: "memory"); /* no tail call: the frame stays */
  return moved;
}

SITE(deep) static void *alloc_deep(unsigned depth) {
  void *object = depth == 0 ? midden_alloc(48) : alloc_deep(depth - 1);
  __asm__ volatile("" ::: "memory");
  return object;
}

NOINLINE_TEST static void drop(size_t from, size_t count) {
  for (size_t i = from; i < from + count; i++) kept[i] = NULL;
}

NOINLINE_TEST static size_t count_dead(size_t from, size_t count) {
  size_t dead = 0;
  for (size_t i = from; i < from + count; i++) dead += !midden_owns(test_unhide(hidden[i]));
  return dead;
}

NOINLINE_TEST static void free_kept(size_t from, size_t count) {
  for (size_t i = from; i < from + count; i++) midden_free(kept[i]);
  drop(from, count);
}

/* ---- what the profile says ---- */

struct figures {
  size_t buckets, depth_max;
  uint64_t samples_allocated, samples_freed, objects_allocated, objects_freed, bytes_allocated, bytes_freed;
};

struct search {
  uintptr_t start, end; /* of code; both 0: everything */
  struct figures figures;
};

static bool has_frame_in(const struct midden_profile_bucket *bucket, uintptr_t start, uintptr_t end) {
  for (size_t i = 0; i < bucket->depth; i++) {
    if (bucket->stack[i] > start && bucket->stack[i] <= end) return true;
  }
  return false;
}

static bool add_bucket(const struct midden_profile_bucket *bucket, void *argument) {
  struct search *search = argument;
  struct figures *figures = &search->figures;
  REQUIRE(bucket->samples_freed <= bucket->samples_allocated && bucket->objects_freed <= bucket->objects_allocated &&
              bucket->bytes_freed <= bucket->bytes_allocated,
          "more was freed than allocated");
  REQUIRE(bucket->depth <= MIDDEN_PROFILE_DEPTH && bucket->object_bytes != 0, "a strange bucket");
  if (search->end != 0 && !has_frame_in(bucket, search->start, search->end)) return true;
  figures->buckets++;
  if (bucket->depth > figures->depth_max) figures->depth_max = bucket->depth;
  figures->samples_allocated += bucket->samples_allocated;
  figures->samples_freed += bucket->samples_freed;
  figures->objects_allocated += bucket->objects_allocated;
  figures->objects_freed += bucket->objects_freed;
  figures->bytes_allocated += bucket->bytes_allocated;
  figures->bytes_freed += bucket->bytes_freed;
  return true;
}

static struct figures figures_of(uintptr_t start, uintptr_t end) {
  struct search search = {.start = start, .end = end};
  midden_profile_visit(add_bucket, &search);
  return search.figures;
}

static struct figures all_figures(void) { return figures_of(0, 0); }

static void require_counts(const struct figures *figures, uint64_t allocated, uint64_t freed) {
  REQUIRE(figures->samples_allocated == allocated && figures->objects_allocated == allocated,
          "%" PRIu64 " samples of %" PRIu64 " objects, not of %" PRIu64, figures->samples_allocated,
          figures->objects_allocated, allocated);
  REQUIRE(figures->samples_freed == freed && figures->objects_freed == freed,
          "%" PRIu64 " samples of %" PRIu64 " freed objects, not of %" PRIu64, figures->samples_freed,
          figures->objects_freed, freed);
}

/* The slots of objects of `bytes`, found by making one. */
static size_t slot_bytes_of(midden_kind kind, size_t bytes) {
  void *object = midden_alloc_kind(kind, bytes);
  size_t slot_bytes = span_slot_bytes(object_span((uintptr_t)object));
  midden_free(object);
  return slot_bytes;
}

/* ---- before the library has started ---- */

static char file_path[64];

/* A child that exits by itself writes a file of its own. */
static void fork_and_exit(void) {
  char path[96];
  pid_t child = fork();
  if (child == 0) exit(0);
  REQUIRE(child > 0 && waitpid(child, NULL, 0) == child, "fork: %s", strerror(errno));
  snprintf(path, sizeof path, "%s.%d", file_path, (int)child);
  REQUIRE(unlink(path) == 0, "%s was not written", path);
}

static int run_with_options(void *argument) {
  (void)argument;
  hidden = calloc(KEPT_MAX, sizeof *hidden);
  setenv("MIDDEN_PROFILE_SAMPLE", "1", 1);
  setenv("MIDDEN_PROFILE_FILE", file_path, 1);
  alloc_small(0, OBJECTS, 40);
  struct figures figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS, 0);
  REQUIRE(all_figures().samples_allocated == test_stats().objects_allocated, "an object is missing");
  fork_and_exit();
  exit(0);
}

static void test_options_begin_a_profile(void **state) {
  (void)state;
  snprintf(file_path, sizeof file_path, "/tmp/midden_profile_%d", (int)getpid());
  test_child_succeeds("options", run_with_options, NULL, CHILD_SECONDS);
  char line[256];
  FILE *file = fopen(file_path, "r");
  assert_non_null(file);
  assert_non_null(fgets(line, sizeof line, file));
  assert_non_null(strstr(line, "@ heap_v2/1\n"));
  fclose(file);
  unlink(file_path);
}

static int run_with_bad_option(void *argument) {
  (void)argument;
  struct midden_options options = {.size = sizeof options, .profile_sample_bytes = SAMPLE_DISTANCE_MAX + 1};
  return midden_init(&options) == -EINVAL ? 0 : 1;
}

static void test_options_out_of_range(void **state) {
  (void)state;
  test_child_succeeds("a bad option", run_with_bad_option, NULL, CHILD_SECONDS);
}

static void test_without_a_profile(void **state) {
  (void)state;
  assert_int_equal(midden_profile_stop(), -EALREADY);
  assert_int_equal(midden_profile_visit(add_bucket, NULL), 0);
  assert_int_equal(midden_profile_write(file_path), -EINVAL);
  assert_int_equal(midden_profile_lost(), 0);
  assert_int_equal(midden_profile_start(SAMPLE_DISTANCE_MAX + 1), -EINVAL);
}

/* ---- every object ---- */

static void start_exact(void) { assert_int_equal(midden_profile_start(1), 0); }
static void stop(void) { assert_int_equal(midden_profile_stop(), 0); }

static void test_counts_are_exact(void **state) {
  (void)state;
  start_exact();
  alloc_small(0, OBJECTS, 24);
  alloc_other(OBJECTS, OBJECTS / 2, MIDDEN_DATA, 200);
  struct figures small = SITE_FIGURES(small), other = SITE_FIGURES(other);
  require_counts(&small, OBJECTS, 0);
  require_counts(&other, OBJECTS / 2, 0);

  drop(0, OBJECTS / 2);
  drop(OBJECTS, OBJECTS / 4);
  test_collect_clean();
  size_t small_dead = count_dead(0, OBJECTS), other_dead = count_dead(OBJECTS, OBJECTS / 2);
  small = SITE_FIGURES(small), other = SITE_FIGURES(other);
  require_counts(&small, OBJECTS, small_dead);
  require_counts(&other, OBJECTS / 2, other_dead);
  assert_in_range(small_dead, OBJECTS / 2 - 20, OBJECTS / 2);
  assert_in_range(other_dead, OBJECTS / 4 - 20, OBJECTS / 4);
  midden_verify();
  stop();

  size_t small_bytes = slot_bytes_of(MIDDEN_CONSERVATIVE, 24), other_bytes = slot_bytes_of(MIDDEN_DATA, 200);
  assert_int_equal(small.bytes_allocated, OBJECTS * small_bytes);
  assert_int_equal(small.bytes_freed, small_dead * small_bytes);
  assert_int_equal(other.bytes_allocated, OBJECTS / 2 * other_bytes);
  assert_int_equal(midden_profile_lost(), 0);
}

static void test_freeing_counts_once(void **state) {
  (void)state;
  start_exact();
  alloc_small(0, OBJECTS, 24);
  free_kept(0, OBJECTS / 2);
  struct figures figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS, OBJECTS / 2);
  test_collect_clean();
  figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS, OBJECTS / 2);
  /* Slots that were freed are used again, by objects of their own. */
  alloc_small(0, OBJECTS / 2, 24);
  figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS + OBJECTS / 2, OBJECTS / 2);
  free_kept(0, OBJECTS);
  figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS + OBJECTS / 2, OBJECTS + OBJECTS / 2);
  stop();
}

static void test_resizing(void **state) {
  (void)state;
  start_exact();
  alloc_small(0, 1, 100);
  void *object = kept[0];
  kept[0] = move_object(object, 99);
  bool stayed = kept[0] == object; /* guarded objects always move */
  struct figures from = SITE_FIGURES(small), to = SITE_FIGURES(moved);
  require_counts(&from, 1, stayed ? 0 : 1);
  require_counts(&to, stayed ? 0 : 1, 0);
  kept[0] = move_object(kept[0], 100000);
  from = SITE_FIGURES(small), to = SITE_FIGURES(moved);
  require_counts(&from, 1, 1);
  require_counts(&to, stayed ? 1 : 2, stayed ? 0 : 1);
  kept[0] = move_object(kept[0], 0);
  to = SITE_FIGURES(moved);
  require_counts(&to, stayed ? 1 : 2, stayed ? 1 : 2);
  stop();
}

static void test_large(void **state) {
  (void)state;
  enum { LARGE = 20 };
  start_exact();
  alloc_other(0, LARGE, MIDDEN_CONSERVATIVE, 100000);
  free_kept(0, LARGE / 4);
  struct figures figures = SITE_FIGURES(other);
  require_counts(&figures, LARGE, LARGE / 4);
  drop(LARGE / 4, LARGE / 2);
  test_collect_clean();
  size_t dead = count_dead(LARGE / 4, 3 * LARGE / 4);
  figures = SITE_FIGURES(other);
  require_counts(&figures, LARGE, LARGE / 4 + dead);
  assert_true(dead >= LARGE / 2 - 5);
  stop();
}

struct pair {
  void *reference;
  long number;
};

static const uint64_t pair_pointers = 1;
static const struct midden_type pair_type = {"pair", sizeof(struct pair), &pair_pointers, NULL, NULL};

/* Every slot that is handed out, in whatever way. */
static void test_all_ways_to_allocate(void **state) {
  (void)state;
  start_exact();
  uint64_t before = test_stats().objects_allocated;
  for (size_t i = 0; i < 100; i++) {
    kept[0] = midden_alloc_data(i % 10);
    kept[1] = midden_alloc_type(&pair_type);
    kept[2] = midden_alloc_array(&pair_type, i);
    kept[3] = midden_alloc_array(&pair_type, 5000);
    kept[4] = midden_alloc_aligned(MIDDEN_CONSERVATIVE, 256, i);
    kept[5] = midden_alloc_aligned(MIDDEN_RAW, 1 << 14, i);
    kept[6] = midden_alloc_root(i);
    kept[7] = midden_weak_new(kept[1]);
    kept[8] = midden_ephemeron_new(kept[1], kept[2]);
    assert_int_equal(midden_alloc_many(MIDDEN_CONSERVATIVE, 32, &kept[9]), 1);
    midden_free(kept[6]);
    if (i % 30 == 0) midden_collect();
  }
  struct figures figures = all_figures();
  assert_int_equal(figures.samples_allocated, test_stats().objects_allocated - before);
  drop(0, 10);
  stop();
}

/* ---- starting, stopping ---- */

static void test_stop_and_start(void **state) {
  (void)state;
  start_exact();
  assert_int_equal(midden_profile_start(1), -EALREADY);
  alloc_small(0, OBJECTS, 24);
  stop();
  assert_int_equal(midden_profile_stop(), -EALREADY);
  alloc_small(OBJECTS, OBJECTS, 24);
  free_kept(OBJECTS, OBJECTS);
  free_kept(0, OBJECTS / 2); /* of the profile, which has stopped: they die all the same */
  struct figures figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS, OBJECTS / 2);

  start_exact();
  assert_int_equal(all_figures().buckets, 0);
  alloc_small(OBJECTS, OBJECTS, 24);
  free_kept(0, OBJECTS); /* what is left of the profile before counts nowhere */
  figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS, 0);
  free_kept(OBJECTS, OBJECTS);
  figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS, OBJECTS);
  stop();
}

/* Buckets that nothing refers to any more are used again. */
static void test_profiles_leave_nothing_behind(void **state) {
  (void)state;
  size_t before = 0;
  for (int round = 0; round < 50; round++) {
    start_exact();
    alloc_small(0, OBJECTS, 24);
    for (size_t bytes = 16; bytes < 2000; bytes += 16) alloc_other(OBJECTS, 1, MIDDEN_DATA, bytes);
    stop();
    if (round % 2 == 0) free_kept(0, OBJECTS);
    drop(0, OBJECTS + 1);
    test_collect_clean();
    if (round == 10) before = test_stats().metadata_specials;
  }
  assert_in_range(test_stats().metadata_specials, 0, before + before / 4);
}

/* ---- call stacks ---- */

static void test_deep_stacks_keep_the_innermost_frames(void **state) {
  (void)state;
  start_exact();
  kept[0] = alloc_deep(100);
  struct figures figures = SITE_FIGURES(deep);
  require_counts(&figures, 1, 0);
  assert_int_equal(figures.depth_max, MIDDEN_PROFILE_DEPTH);
  kept[1] = alloc_deep(2);
  assert_int_equal(SITE_FIGURES(deep).buckets, 2);
  drop(0, 2);
  stop();
}

static void *in_fiber(void *argument) {
  (void)argument;
  alloc_small(0, OBJECTS, 24);
  midden_fiber_yield(NULL);
  alloc_small(OBJECTS, OBJECTS, 24);
  return NULL;
}

static void test_fibers(void **state) {
  (void)state;
  start_exact();
  struct midden_fiber *fiber = midden_fiber_new(in_fiber, NULL, 0);
  assert_int_equal(midden_fiber_resume(fiber, NULL, NULL), 0);
  assert_int_equal(midden_fiber_resume(fiber, NULL, NULL), 0);
  struct figures figures = SITE_FIGURES(small);
  require_counts(&figures, 2 * OBJECTS, 0);
  assert_in_range(figures.depth_max, 2, 10); /* the stack ends where the fiber does */
  drop(0, 2 * OBJECTS);
  stop();
}

/* ---- threads ---- */

enum { THREADS = 4 };

static void *run_thread(void *argument) {
  size_t from = (size_t)(uintptr_t)argument * OBJECTS;
  alloc_small(from, OBJECTS, 24);
  free_kept(from, OBJECTS / 2);
  return NULL;
}

static void test_threads(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  start_exact();
  for (uintptr_t i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, run_thread, (void *)i), 0);
  for (int i = 0; i < 5; i++) midden_collect();
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  struct figures figures = SITE_FIGURES(small);
  require_counts(&figures, THREADS * OBJECTS, THREADS * OBJECTS / 2);
  for (size_t i = 0; i < THREADS; i++) free_kept(i * OBJECTS + OBJECTS / 2, OBJECTS / 2);
  figures = SITE_FIGURES(small);
  require_counts(&figures, THREADS * OBJECTS, THREADS * OBJECTS);
  stop();
}

static pthread_barrier_t barrier;

static void *run_before_and_after(void *argument) {
  (void)argument;
  alloc_small(0, 1, 16); /* opens a window */
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  alloc_small(0, OBJECTS, 16);
  return NULL;
}

static void *begin_with_a_large_one(void *unused) {
  alloc_other(0, 1, MIDDEN_DATA, 100000);
  return unused;
}

/* It opens no window. */
static void test_a_thread_that_begins_with_a_large_object(void **state) {
  (void)state;
  pthread_t thread;
  start_exact();
  assert_int_equal(pthread_create(&thread, NULL, begin_with_a_large_one, NULL), 0);
  pthread_join(thread, NULL);
  assert_int_equal(SITE_FIGURES(other).samples_allocated, 1);
  drop(0, 1);
  stop();
}

/* What a thread had set aside before the start is not seen, and nothing else is missed. */
static void test_threads_that_ran_before(void **state) {
  (void)state;
  enum { WINDOW_SLOTS = CACHE_WINDOW_BYTES_LEAST / 16 };
  pthread_t thread;
  pthread_barrier_init(&barrier, NULL, 2);
  assert_int_equal(pthread_create(&thread, NULL, run_before_and_after, NULL), 0);
  pthread_barrier_wait(&barrier);
  start_exact();
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  assert_in_range(SITE_FIGURES(small).samples_allocated, OBJECTS - WINDOW_SLOTS, OBJECTS);
  drop(0, OBJECTS);
  stop();
}

/* ---- forks ---- */

static int run_child(void *argument) {
  (void)argument;
  struct figures figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS, 0);
  free_kept(0, OBJECTS / 2);
  alloc_small(OBJECTS, OBJECTS, 24);
  figures = SITE_FIGURES(small);
  require_counts(&figures, 2 * OBJECTS, OBJECTS / 2);
  midden_collect();
  REQUIRE(midden_profile_stop() == 0 && midden_profile_start(1) == 0, "cannot begin anew");
  midden_verify();
  return 0;
}

static void test_fork(void **state) {
  (void)state;
  start_exact();
  alloc_small(0, OBJECTS, 24);
  test_child_succeeds("a child goes on", run_child, NULL, CHILD_SECONDS);
  struct figures figures = SITE_FIGURES(small);
  require_counts(&figures, OBJECTS, 0);
  free_kept(0, OBJECTS);
  stop();
}

/* ---- no memory ---- */

static int run_without_memory(void *argument) {
  (void)argument;
  start_exact();
  alloc_small(0, OBJECTS, 16);
  os_fail_after(1, true);
  size_t count = 0;
  while (count < 2000000 && midden_profile_lost() < 10) count += midden_alloc(16) != NULL;
  os_fail_after(0, false);
  struct figures figures = all_figures();
  REQUIRE(midden_profile_lost() >= 10, "nothing was lost in %zu allocations", count);
  REQUIRE(figures.samples_allocated + midden_profile_lost() == OBJECTS + count,
          "%" PRIu64 " and %" PRIu64 " are not %zu", figures.samples_allocated, midden_profile_lost(), OBJECTS + count);
  midden_collect();
  midden_verify();
  return 0;
}

static void test_no_memory(void **state) {
  (void)state;
  test_child_succeeds("no memory", run_without_memory, NULL, CHILD_SECONDS);
}

/* ---- reading ---- */

static bool stop_at_third(const struct midden_profile_bucket *bucket, void *argument) {
  (void)bucket;
  return ++*(int *)argument < 3;
}

static bool allocate_too(const struct midden_profile_bucket *bucket, void *argument) {
  (void)argument;
  kept[0] = midden_alloc(bucket->object_bytes);
  midden_collect();
  return true;
}

static void test_visiting(void **state) {
  (void)state;
  int calls = 0;
  start_exact();
  for (size_t bytes = 16; bytes <= 160; bytes += 16) alloc_small(0, 1, bytes);
  assert_int_equal(midden_profile_visit(stop_at_third, &calls), 3);
  assert_int_equal(calls, 3);
  size_t buckets = all_figures().buckets;
  assert_int_equal(midden_profile_visit(allocate_too, NULL), buckets);
  assert_true(all_figures().buckets > buckets);
  drop(0, 1);
  stop();
}

struct line {
  uint64_t used, used_bytes, allocated, allocated_bytes;
  int length;
};

static struct line read_line(const char *text) {
  struct line line;
  int read = sscanf(text, "%" SCNu64 ": %" SCNu64 " [%" SCNu64 ": %" SCNu64 "] @%n", &line.used, &line.used_bytes,
                    &line.allocated, &line.allocated_bytes, &line.length);
  REQUIRE(read == 4, "not a line of counts: %s", text);
  return line;
}

static bool note_leaf(const struct midden_profile_bucket *bucket, void *argument) {
  *(uintptr_t *)argument = bucket->stack[0];
  return !has_frame_in(bucket, (uintptr_t)__start_site_small, (uintptr_t)__stop_site_small);
}

/* Reads the lines; how many have `leaf`, which lies in the call and not behind it, for their first address. */
static size_t count_lines_of(FILE *file, const struct line *sums, uintptr_t leaf) {
  char text[1024];
  size_t found = 0;
  struct line left = *sums;
  while (fgets(text, sizeof text, file) != NULL && text[0] != '\n') {
    struct line line = read_line(text);
    left.used -= line.used, left.used_bytes -= line.used_bytes;
    left.allocated -= line.allocated, left.allocated_bytes -= line.allocated_bytes;
    found += strtoull(text + line.length, NULL, 16) == leaf;
  }
  REQUIRE(left.used == 0 && left.used_bytes == 0 && left.allocated == 0 && left.allocated_bytes == 0,
          "the sums are not those of the lines");
  return found;
}

static bool maps_code_at(FILE *file, uintptr_t address) {
  char text[1024], permissions[8];
  unsigned long start, end;
  bool found = false;
  REQUIRE(fgets(text, sizeof text, file) != NULL && strcmp(text, "MAPPED_LIBRARIES:\n") == 0, "%s", text);
  while (fgets(text, sizeof text, file) != NULL) {
    REQUIRE(sscanf(text, "%lx-%lx %7s", &start, &end, permissions) == 3, "not a mapping: %s", text);
    found = found || (start <= address && address < end && permissions[2] == 'x');
  }
  return found;
}

static void test_file(void **state) {
  (void)state;
  char text[256];
  struct line sums;
  uintptr_t leaf = 0;
  start_exact();
  alloc_small(0, OBJECTS, 24);
  free_kept(0, OBJECTS / 2);
  assert_int_equal(midden_profile_write(file_path), 0);
  stop();
  FILE *file = fopen(file_path, "r");
  assert_non_null(file);
  assert_non_null(fgets(text, sizeof text, file));
  static const char opening[] = "heap profile: ";
  assert_memory_equal(text, opening, sizeof opening - 1);
  sums = read_line(text + sizeof opening - 1);
  assert_string_equal(text + sizeof opening - 1 + sums.length, " heap_v2/1\n");
  assert_in_range(sums.allocated - sums.used, OBJECTS / 2, OBJECTS / 2);
  midden_profile_visit(note_leaf, &leaf);
  assert_int_equal(count_lines_of(file, &sums, leaf - 1), 1);
  assert_true(maps_code_at(file, (uintptr_t)__start_site_small));
  fclose(file);
  unlink(file_path);
  assert_int_equal(midden_profile_write(NULL), -EINVAL);
  assert_int_equal(midden_profile_write("/nowhere/at/all"), -ENOENT);
  free_kept(OBJECTS / 2, OBJECTS / 2);
}

/* ---- sampling ---- */

static void test_functions_are_those_of_mathematics(void **state) {
  (void)state;
  struct rng rng = {7};
  for (int i = 0; i < 100000; i++) {
    size_t bytes = 1 + rng_size(&rng, (size_t)1 << 40), distance = 2 + rng_size(&rng, SAMPLE_DISTANCE_MAX - 2);
    double expected = -expm1(-(double)bytes / (double)distance);
    assert_true(fabs(sample_probability(bytes, distance) - expected) <= 1e-11 * expected);
  }
  assert_true(sample_probability(1, 1) == 1);

  enum { DRAWS = 1000000 };
  double sum = 0, squares = 0;
  uint64_t random = 12345;
  const size_t distance = 1 << 20;
  for (int i = 0; i < DRAWS; i++) {
    double drawn = (double)sample_draw(&random, distance) / (double)distance;
    sum += drawn;
    squares += drawn * drawn;
  }
  /* Mean 1 and second moment 2, whose deviations are 1 and the root of 20: five of them. */
  assert_true(fabs(sum / DRAWS - 1) < 5 / sqrt(DRAWS));
  assert_true(fabs(squares / DRAWS - 2) < 5 * sqrt(20.0 / DRAWS));
  for (int i = 0; i < 1000; i++) assert_int_equal(sample_draw(&random, 1), 0);
}

/* A thread that is busy with a sample: what it allocates meanwhile is not there. */
static void test_a_paused_sampler_passes_nothing(void **state) {
  (void)state;
  struct sampler sampler = {.left = 100, .distance = 1000, .is_paused = true};
  assert_int_equal(sampler_window_bytes(&sampler, 4096), 4096);
  assert_false(sampler_pass(&sampler, 50));
  assert_false(sampler_pass(&sampler, 500));
  assert_int_equal(sampler.left, 100);
}

/* The naive way to sample: slot after slot. */
struct reference {
  uint64_t random;
  size_t left, distance;
};

static struct reference reference_new(size_t distance) {
  struct reference reference = {.random = sample_seed, .distance = distance};
  reference.left = sample_draw(&reference.random, distance);
  return reference;
}

static bool reference_samples(struct reference *reference, size_t bytes) {
  bool is_sampled = reference->left < bytes;
  reference->left = is_sampled ? sample_draw(&reference->random, reference->distance) : reference->left - bytes;
  return is_sampled;
}

/* Windows of random sizes, cut short by random ends of spans: the same slots are sampled. */
static void test_windows_sample_as_single_slots_do(void **state) {
  (void)state;
  struct rng rng = {11};
  for (size_t distance = 2; distance < 1 << 20; distance *= 3) {
    struct sampler sampler = {0};
    sample_seed = rng_next(&rng) | 1;
    atomic_store_release(&sample_distance, distance);
    atomic_store_release(&sample_epoch, sampler.epoch + 1);
    assert_true(sampler_follow(&sampler));
    assert_false(sampler_follow(&sampler));
    struct reference reference = reference_new(distance);
    for (int i = 0; i < 20000; i++) {
      size_t slot_bytes = 16 * (1 + rng_below(&rng, 100)), wanted = 1 + rng_below(&rng, 4096);
      size_t slots = sampler_window_bytes(&sampler, wanted) / slot_bytes;
      if (slots > 1) slots = 1 + rng_below(&rng, slots);
      if (slots == 0) slots = 1;
      bool is_sampled = sampler_pass(&sampler, slots * slot_bytes);
      assert_true(slots == 1 || !is_sampled);
      for (size_t slot = 0; slot < slots; slot++)
        assert_int_equal(reference_samples(&reference, slot_bytes), is_sampled);
    }
  }
  atomic_store_release(&sample_distance, (size_t)0);
  atomic_store_release(&sample_epoch, 0u);
  sample_seed = 0;
}

/* By a fixed seed.  In the heap the same objects are sampled as by the reference, and what is estimated from them is within
 * five deviations of what was allocated. */
static void check_estimates(midden_kind kind, size_t bytes, size_t count, size_t distance) {
  size_t slot_bytes = slot_bytes_of(kind, bytes);
  sample_seed = test_mix(bytes ^ distance);
  assert_int_equal(midden_profile_start(distance), 0);
  struct reference reference = reference_new(distance);
  size_t samples = 0;
  for (size_t i = 0; i < count; i++) {
    alloc_other(0, 1, kind, bytes);
    samples += reference_samples(&reference, slot_bytes);
  }
  struct figures figures = SITE_FIGURES(other);
  stop();
  sample_seed = 0;
  double probability = sample_probability(slot_bytes, distance), truth = (double)count;
  double deviation = sqrt(truth * (1 - probability) / probability);
  assert_int_equal(figures.samples_allocated, samples);
  assert_true(fabs((double)figures.objects_allocated - truth) <= 5 * deviation + 1);
  assert_true(fabs((double)figures.bytes_allocated - truth * (double)slot_bytes) <=
              (5 * deviation + 1) * (double)slot_bytes);
}

static void test_estimates(void **state) {
  (void)state;
  check_estimates(MIDDEN_CONSERVATIVE, 24, 200000, 4096);
  check_estimates(MIDDEN_DATA, 16, 200000, 512);
  check_estimates(MIDDEN_DATA, 1000, 100000, 65536);
  check_estimates(MIDDEN_ROOT, 3000, 2000, 2048);
  check_estimates(MIDDEN_RAW, 30000, 1000, 20000);
  check_estimates(MIDDEN_DATA, 100000, 1000, 524288);
  check_estimates(MIDDEN_DATA, 500000, 200, 1000);
}

int main(void) {
  hidden = calloc(KEPT_MAX, sizeof *hidden);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_options_begin_a_profile), /* forks before the library starts, as does the next */
      cmocka_unit_test(test_options_out_of_range),
      cmocka_unit_test(test_functions_are_those_of_mathematics),
      cmocka_unit_test(test_a_paused_sampler_passes_nothing),
      cmocka_unit_test(test_windows_sample_as_single_slots_do),
      cmocka_unit_test(test_without_a_profile),
      cmocka_unit_test(test_counts_are_exact),
      cmocka_unit_test(test_freeing_counts_once),
      cmocka_unit_test(test_resizing),
      cmocka_unit_test(test_large),
      cmocka_unit_test(test_all_ways_to_allocate),
      cmocka_unit_test(test_stop_and_start),
      cmocka_unit_test(test_profiles_leave_nothing_behind),
      cmocka_unit_test(test_deep_stacks_keep_the_innermost_frames),
      cmocka_unit_test(test_fibers),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_threads_that_ran_before),
      cmocka_unit_test(test_a_thread_that_begins_with_a_large_object),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_visiting),
      cmocka_unit_test(test_file),
      cmocka_unit_test(test_estimates),
  };
  return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
