/* Arguments at and beyond the edge, for every entry point.
 *
 * Questions answer any value whatever.  Requests that cannot be met return NULL or the documented error.  Misuse that
 * would corrupt the heap ends the process by SIGABRT with a message that names the address; those cases run in
 * children. */
#include "support/heap_test.h"

#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "alloc/cache.h"
#include "midden/barrier.h"

enum { CHILD_SECONDS = 30 };

/* ---- addresses that are no objects ---- */

enum { STRANGERS = 16 };

struct stranger {
  const char *what;
  const void *address;
};

static char static_bytes[64];

/* Values from outside of the heap, and some from inside of its range where no object is. */
static size_t strangers_find(struct stranger strangers[STRANGERS], const char *on_stack, const char *in_malloc) {
  uintptr_t start, end;
  midden_heap_bounds(&start, &end);
  const struct stranger found[] = {
      {"NULL", NULL},
      {"1", (void *)1},
      {"8", (void *)8},
      {"-1", (void *)UINTPTR_MAX},
      {"-16", (void *)(UINTPTR_MAX - 15)},
      {"no canonical address", (void *)((uintptr_t)1 << 62)},
      {"the stack", on_stack},
      {"malloc", in_malloc},
      {"static data", static_bytes},
      {"code", (void *)(uintptr_t)strangers_find},
      {"below the heap", (void *)(start - 1)},
      {"the heap's start", (void *)start},
      {"the heap's end", (void *)end},
      {"one word below the heap's end", (void *)(end - 8)},
      {"the last byte", (void *)(end - 1)},
  };
  _Static_assert(sizeof(found) <= STRANGERS * sizeof(found[0]), "STRANGERS is too small");
  memcpy(strangers, found, sizeof(found));
  return TEST_COUNT_OF(found);
}

/* ---- questions ---- */

static void check_answers_about_nothing(const char *what, const void *address) {
  REQUIRE(midden_base(address) == NULL, "midden_base of %s", what);
  REQUIRE(midden_size(address) == 0, "midden_size of %s", what);
  REQUIRE(!midden_owns(address), "midden_owns %s", what);
  REQUIRE(midden_kind_of(address) == -EINVAL, "midden_kind_of %s: %d", what, midden_kind_of(address));
}

static void test_questions_about_strangers(void **state) {
  (void)state;
  struct stranger strangers[STRANGERS];
  char on_stack[64], *in_malloc = malloc(64);
  assert_non_null(midden_alloc(100));
  size_t count = strangers_find(strangers, on_stack, in_malloc);
  for (size_t i = 0; i < count; i++) check_answers_about_nothing(strangers[i].what, strangers[i].address);
  free(in_malloc);
}

/* A slot that waits in the thread's window: it is no object yet.  Where windows hold a single slot, another free one. */
static void *a_slot_to_come(void) {
  void *object = midden_alloc(48);
  if (cache_single_slots) {
    midden_free(object);
    return object;
  }
  const struct cache_bin *bin = cache_bin_of(cache_self, MIDDEN_CONSERVATIVE, size_class_of(48));
  while (bin->next == bin->limit) midden_alloc(48);
  return bin->next;
}

static void test_questions_about_slots_to_come(void **state) {
  (void)state;
  check_answers_about_nothing("a slot in a window", a_slot_to_come());
}

static void check_answers_inside(char *object, size_t bytes, int kind) {
  size_t size = midden_size(object);
  const size_t offsets[] = {0, 1, 7, 8, bytes / 2, bytes - 1, size - 1};
  assert_non_null(object);
  assert_true(size >= bytes);
  for (size_t i = 0; i < TEST_COUNT_OF(offsets); i++) {
    if (offsets[i] >= size) continue;
    assert_ptr_equal(midden_base(object + offsets[i]), object);
    assert_int_equal(midden_size(object + offsets[i]), size);
    assert_true(midden_owns(object + offsets[i]));
    assert_int_equal(midden_kind_of(object + offsets[i]), kind);
  }
  assert_ptr_not_equal(midden_base(object - 1), object);
  assert_ptr_not_equal(midden_base(object + size), object);
}

static void test_questions_inside_objects(void **state) {
  (void)state;
  static const size_t sizes[] = {9, 16, 17, 100, 1000, 5000, 8192, 32768, 32769, 100000, 1000000, 5000000};
  const midden_kind kinds[] = {MIDDEN_DATA, MIDDEN_CONSERVATIVE, MIDDEN_RAW, MIDDEN_ROOT, MIDDEN_ROOT_DATA};
  for (size_t i = 0; i < TEST_COUNT_OF(sizes); i++) {
    for (size_t k = 0; k < TEST_COUNT_OF(kinds); k++) {
      char *object = midden_alloc_kind(kinds[k], sizes[i]);
      check_answers_inside(object, sizes[i], (int)kinds[k]);
      midden_free(object);
      check_answers_about_nothing("a freed object", object);
    }
  }
}

/* The trailer lies behind what the program may use: a type, and the number of elements of an array.  Both fill their slots here. */
static void test_sizes_of_typed_objects(void **state) {
  (void)state;
  static const uint64_t pointers = 1;
  static const struct midden_type small = {.name = "small", .size = 24, .pointers = &pointers};
  static const struct midden_type element = {.name = "element", .size = 16, .pointers = &pointers};
  assert_int_equal(midden_size(midden_alloc_type(&small)), 24);
  assert_int_equal(midden_size(midden_alloc_array(&element, 3)), 48);
}

/* What it may use, so that writing all of it spares the object that shares its slot. */
static void test_sizes_of_tiny_objects(void **state) {
  (void)state;
  unsigned char *objects[8];
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++) objects[i] = midden_alloc_data(8);
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++) {
    assert_int_equal(midden_size(objects[i]), 8);
    memset(objects[i], (int)i, midden_size(objects[i]));
  }
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++)
    for (int byte = 0; byte < 8; byte++) assert_int_equal(objects[i][byte], i);
}

/* ---- sizes ---- */

static void test_size_zero(void **state) {
  (void)state;
  void *objects[] = {midden_alloc(0),
                     midden_alloc_data(0),
                     midden_alloc_kind(MIDDEN_CONSERVATIVE, 0),
                     midden_alloc_kind(MIDDEN_RAW, 0),
                     midden_alloc_aligned(MIDDEN_CONSERVATIVE, 64, 0),
                     midden_alloc_root(0)};
  for (size_t i = 0; i < TEST_COUNT_OF(objects); i++) {
    assert_non_null(objects[i]);
    assert_true(midden_owns(objects[i]));
    assert_true(midden_size(objects[i]) >= 1);
    for (size_t j = 0; j < i; j++) assert_ptr_not_equal(objects[i], objects[j]);
  }
  midden_free(objects[5]);
}

static const uint64_t pair_pointers[] = {3};
static const struct midden_type pair_type = {.name = "pair", .size = 16, .pointers = pair_pointers};
static const struct midden_type plain_type = {.name = "plain", .size = 24};

/* In an array that the compiler does not look through: it knows better than to request this much. */
static const volatile size_t huge_sizes[] = {SIZE_MAX,        SIZE_MAX - 7,   SIZE_MAX - 15,    SIZE_MAX - 8191,
                                             SIZE_MAX / 2,    PTRDIFF_MAX,    PTRDIFF_MAX - 15, (size_t)PTRDIFF_MAX + 1,
                                             (size_t)1 << 62, (size_t)1 << 48};

static void test_huge_sizes(void **state) {
  (void)state;
  char *object = midden_alloc(100);
  memset(object, 0x5a, 100);
  for (size_t i = 0; i < TEST_COUNT_OF(huge_sizes); i++) {
    size_t bytes = huge_sizes[i];
    void *list = object;
    assert_null(midden_alloc(bytes));
    assert_null(midden_alloc_data(bytes));
    assert_null(midden_alloc_root(bytes));
    for (midden_kind kind = 0; kind < MIDDEN_KINDS_BUILT_IN; kind++) assert_null(midden_alloc_kind(kind, bytes));
    assert_null(midden_alloc_aligned(MIDDEN_CONSERVATIVE, 16, bytes));
    assert_null(midden_alloc_aligned(MIDDEN_CONSERVATIVE, 1 << 20, bytes));
    assert_int_equal(midden_alloc_many(MIDDEN_CONSERVATIVE, bytes, &list), 0);
    assert_null(list);
    assert_null(midden_realloc(object, bytes));
    assert_null(midden_realloc(NULL, bytes));
    assert_null(midden_alloc_array(&pair_type, bytes));
    assert_int_equal(midden_reserve(bytes), -ENOMEM);
  }
  for (int i = 0; i < 100; i++) assert_int_equal(object[i], 0x5a); /* as it was */
  assert_true(midden_owns(object));
}

/* count * size passes 2^64: the product is small, the request is not. */
static void test_array_overflow(void **state) {
  (void)state;
  assert_null(midden_alloc_array(&pair_type, ((size_t)1 << 60) + 1));
  assert_null(midden_alloc_array(&pair_type, (size_t)1 << 60));
  assert_null(midden_alloc_array(&plain_type, SIZE_MAX / 24 + 2));
  assert_null(midden_alloc_array(&plain_type, SIZE_MAX));
  void *empty = midden_alloc_array(&pair_type, 0);
  assert_true(empty == NULL || midden_owns(empty));
}

/* An object of some bytes takes some pages, not as many bytes as it is aligned to. */
static void test_alignment(void **state) {
  enum { LARGE_PAGE_BYTES = 8192 };
  (void)state;
  static const volatile size_t bad[] = {0, 3, 24, 48, 100, SIZE_MAX, SIZE_MAX / 2, ((size_t)1 << 63) | 1};
  for (size_t i = 0; i < TEST_COUNT_OF(bad); i++) assert_null(midden_alloc_aligned(MIDDEN_DATA, bad[i], 100));
  assert_null(midden_alloc_aligned(MIDDEN_DATA, (size_t)1 << 63, 100));
  for (size_t alignment = 1; alignment <= (size_t)1 << 22; alignment *= 2) {
    for (size_t bytes = 1; bytes < 300000; bytes = bytes * 7 + 1) {
      char *object = midden_alloc_aligned(MIDDEN_CONSERVATIVE, alignment, bytes);
      assert_non_null(object);
      assert_int_equal((uintptr_t)object & (alignment - 1), 0);
      assert_int_equal((uintptr_t)object & 15, 0);
      assert_ptr_equal(midden_base(object + bytes - 1), object);
      assert_true(midden_size(object) >= bytes);
      if (alignment > LARGE_PAGE_BYTES) assert_true(midden_size(object) <= bytes + 2 * LARGE_PAGE_BYTES);
    }
  }
}

/* ---- words ---- */

enum { WORDS = 64 };

/* As memmove, whichever way the ranges overlap; and not a word more. */
static void test_copies_of_words(void **state) {
  (void)state;
  static const size_t places[][3] = {{0, 10, 30}, {10, 0, 30}, {5, 5, 20}, {0, 32, 32},
                                     {32, 0, 32}, {7, 9, 0},   {1, 0, 63}};
  uintptr_t words[WORDS], expected[WORDS];
  for (size_t i = 0; i < TEST_COUNT_OF(places); i++) {
    size_t to = places[i][0], from = places[i][1], count = places[i][2];
    for (size_t k = 0; k < WORDS; k++) words[k] = expected[k] = k + 1;
    memmove(expected + to, expected + from, count * sizeof(words[0]));
    midden_copy_range(words + to, words + from, count);
    assert_memory_equal(words, expected, sizeof(words));
    memset(expected + to, 0, count * sizeof(words[0]));
    midden_clear_range(words + to, count);
    assert_memory_equal(words, expected, sizeof(words));
  }
}

/* ---- kinds ---- */

static void trace_nothing(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)object, (void)slot_bytes, (void)tracer, (void)argument;
}

static void test_unknown_kinds(void **state) {
  (void)state;
  const midden_kind kinds[] = {MIDDEN_TYPED, MIDDEN_KINDS_BUILT_IN, 63, 64, 65, 255, 256, 1u << 31, UINT32_MAX};
  void *list;
  for (size_t i = 0; i < TEST_COUNT_OF(kinds); i++) {
    assert_null(midden_alloc_kind(kinds[i], 100));
    assert_null(midden_alloc_aligned(kinds[i], 64, 100));
    assert_int_equal(midden_alloc_many(kinds[i], 100, &list), 0);
    assert_null(list);
  }
}

/* Runs in a child, which may use the kinds up. */
static int use_up_kinds(void *argument) {
  struct midden_kind_options options = {.size = sizeof(options), .name = "k", .trace = trace_nothing};
  int last = MIDDEN_KINDS_BUILT_IN - 1;
  (void)argument;
  for (int i = MIDDEN_KINDS_BUILT_IN; i < MIDDEN_KINDS_MAX; i++) {
    int kind = midden_kind_new(&options);
    if (kind == -ENOSPC && i > MIDDEN_KINDS_MAX - 8) break; /* the library may keep some for itself */
    REQUIRE(kind > last && kind < MIDDEN_KINDS_MAX, "midden_kind_new: %d", kind);
    void *object = midden_alloc_kind((midden_kind)kind, 100);
    REQUIRE(midden_alloc_kind((midden_kind)kind + 1, 100) == NULL, "an object of no kind");
    REQUIRE(midden_kind_of(object) == kind, "an object of kind %d is of kind %d", kind, midden_kind_of(object));
    last = kind;
  }
  REQUIRE(midden_kind_new(&options) == -ENOSPC, "a kind too many");
  return 0;
}

static void test_new_kinds(void **state) {
  (void)state;
  struct midden_kind_options options = {.size = 0, .name = "bad"};
  assert_int_equal(midden_kind_new(NULL), -EINVAL);
  assert_int_equal(midden_kind_new(&options), -EINVAL);
  test_child_succeeds("kinds", use_up_kinds, NULL, CHILD_SECONDS);
}

/* ---- types ---- */

enum { NEIGHBOURS = 200 };

/* Each object with bits beyond its words has one beside it whose words are no references. */
NOINLINE_TEST static void make_neighbours(void **kept, struct midden_weak **weak) {
  static const uint64_t all[] = {UINT64_MAX};
  static const struct midden_type pair_of_all = {.name = "pair of all", .size = 16, .pointers = all};
  static const struct midden_type two_words = {.name = "two words", .size = 16};
  for (int i = 0; i < NEIGHBOURS; i++) {
    void **referring = midden_alloc_type(i % 2 == 0 ? &pair_of_all : &two_words);
    referring[1] = midden_alloc(32);
    weak[i] = midden_weak_new(referring[1]);
    kept[i] = referring;
  }
}

static void test_bits_beyond_a_type(void **state) {
  (void)state;
  static void *kept[NEIGHBOURS];
  static struct midden_weak *weak[NEIGHBOURS];
  make_neighbours(kept, weak);
  test_collect_clean();
  int living[2] = {0};
  for (int i = 0; i < NEIGHBOURS; i++) living[i % 2] += midden_weak_get(weak[i]) != NULL;
  assert_int_equal(living[0], NEIGHBOURS / 2);
  assert_in_range(living[1], 0, 2); /* what stale words may keep */
}

/* ---- roots, weak links, events ---- */

static void test_root_ranges(void **state) {
  (void)state;
  static void *words[8];
  char *bytes = (char *)words;
  assert_int_equal(midden_root_add(words + 4, words), -EINVAL);
  assert_int_equal(midden_root_add(words, words), 0);
  assert_int_equal(midden_root_add(NULL, NULL), 0);
  assert_int_equal(midden_root_add(words, words + 8), 0);
  assert_int_equal(midden_root_add(words + 2, words + 6), 0); /* overlaps */
  assert_int_equal(midden_root_add(bytes + 1, bytes + 5), 0); /* no aligned word inside */
  midden_collect();
  midden_root_remove(words + 3, words + 4);
  midden_root_remove(words + 4, words + 3);
  midden_root_remove(NULL, NULL);
  midden_root_remove(bytes + 1, bytes + 3);
  midden_collect();
  midden_root_clear();
  midden_root_remove(words, words + 8);
  midden_collect();
}

static void test_weak_links_to_strangers(void **state) {
  (void)state;
  struct stranger strangers[STRANGERS];
  char on_stack[64], *in_malloc = malloc(64);
  void **link = malloc(2 * sizeof(*link)), *object = midden_alloc(32);
  size_t count = strangers_find(strangers, on_stack, in_malloc);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(midden_weak_link(link, strangers[i].address, MIDDEN_WEAK_BEFORE_FINALIZERS), -EINVAL);
    void *old = NULL;
    int error =
        midden_finalizer_set((void *)(uintptr_t)strangers[i].address, NULL, NULL, MIDDEN_FINALIZE_ORDERED, NULL, &old);
    assert_int_equal(error, -EINVAL);
  }
  for (int i = 1; i < 8; i++) {
    void **unaligned = (void **)((char *)link + i);
    assert_int_equal(midden_weak_link(unaligned, object, MIDDEN_WEAK_AFTER_FINALIZERS), -EINVAL);
    assert_int_equal(midden_weak_unlink(unaligned, MIDDEN_WEAK_AFTER_FINALIZERS), -ENOENT);
  }
  assert_int_equal(midden_weak_unlink(NULL, MIDDEN_WEAK_AFTER_FINALIZERS), -ENOENT);
  assert_int_equal(midden_weak_move(link, link + 1, MIDDEN_WEAK_AFTER_FINALIZERS), -ENOENT);
  free(in_malloc);
  free(link);
}

static bool stop_at_once(void *argument) {
  ++*(unsigned *)argument;
  return true;
}

static bool never_stop(void *argument) {
  ++*(unsigned *)argument;
  return false;
}

static void test_collect_unless(void **state) {
  (void)state;
  unsigned asked = 0;
  void *volatile object = midden_alloc(100);
  assert_false(midden_collect_unless(stop_at_once, &asked));
  assert_true(asked != 0);
  assert_true(midden_collect_unless(never_stop, &asked));
  assert_true(midden_owns(object));
  assert_false(midden_collect_unless(stop_at_once, &asked));
  midden_collect();
  assert_true(midden_owns(object));
  midden_verify();
}

static void count_events(enum midden_event event, void *argument) { ((unsigned *)argument)[event]++; }

static void test_disable(void **state) {
  (void)state;
  unsigned events[MIDDEN_EVENT_END + 1] = {0};
  midden_set_event_callback(count_events, events);
  midden_disable();
  midden_disable();
  midden_enable();
  assert_true(midden_is_disabled());
  uint64_t before = test_stats().collections;
  midden_collect();
  for (int i = 0; i < 20000; i++) assert_non_null(midden_alloc(1000));
  assert_int_equal(test_stats().collections, before);
  assert_int_equal(events[MIDDEN_EVENT_STOPPED], 0);
  midden_enable();
  assert_false(midden_is_disabled());
  midden_collect();
  assert_true(test_stats().collections > before);
  for (int i = MIDDEN_EVENT_START; i <= MIDDEN_EVENT_END; i++) assert_true(events[i] != 0);
  assert_int_equal(events[MIDDEN_EVENT_STOPPED], events[MIDDEN_EVENT_RESUMED]);
  midden_set_event_callback(NULL, NULL);
}

/* ---- marks ---- */

enum { MARKED = 50, STALE = 5 };

static void *marked_kept[MARKED];
static uintptr_t marked_by_hand[MARKED], marked_never[MARKED];

struct marks {
  size_t kept, by_hand, never;
};

static struct marks marks_of_now(void) {
  struct marks marks = {0};
  for (size_t i = 0; i < MARKED; i++) {
    marks.kept += midden_is_marked(marked_kept[i]);
    marks.by_hand += midden_is_marked((char *)test_unhide(marked_by_hand[i]) + i);
    marks.never += midden_is_marked(test_unhide(marked_never[i]));
  }
  return marks;
}

static void note_marks(enum midden_event event, void *argument) {
  if (event >= MIDDEN_EVENT_STOPPED && event <= MIDDEN_EVENT_RESUMING)
    ((struct marks *)argument)[event] = marks_of_now();
  for (size_t i = 0; event == MIDDEN_EVENT_MARK_START && i < MARKED; i++)
    midden_mark((char *)test_unhide(marked_by_hand[i]) + i);
}

NOINLINE_TEST static void make_marked(void) {
  for (size_t i = 0; i < MARKED; i++) {
    marked_kept[i] = midden_alloc(100);
    marked_by_hand[i] = test_hide(midden_alloc(100));
    marked_never[i] = test_hide(midden_alloc(100));
  }
}

/* Before an object is marked it lives all the same, and what was marked by hand lives as long as what is reached. */
static void test_marks_in_events(void **state) {
  (void)state;
  struct marks marks[MIDDEN_EVENT_END + 1] = {{0}};
  assert_false(midden_is_marked(NULL));
  assert_false(midden_is_marked(static_bytes));
  make_marked();
  struct marks before = marks_of_now();
  assert_true(before.kept == MARKED && before.by_hand == MARKED && before.never == MARKED);
  midden_set_event_callback(note_marks, marks);
  test_collect_clean();
  midden_set_event_callback(NULL, NULL);
  for (int event = MIDDEN_EVENT_STOPPED; event <= MIDDEN_EVENT_MARK_START; event++)
    assert_in_range(marks[event].by_hand + marks[event].never, 0, STALE);
  for (int event = MIDDEN_EVENT_MARK_END; event <= MIDDEN_EVENT_RESUMING; event++) {
    assert_true(marks[event].kept == MARKED && marks[event].by_hand == MARKED);
    assert_in_range(marks[event].never, 0, STALE);
  }
  struct marks after = marks_of_now();
  assert_true(after.kept == MARKED && after.by_hand == MARKED && after.never <= STALE);
  memset(marked_kept, 0, sizeof(marked_kept));
}

/* ---- settings, figures ---- */

static void test_settings_return_what_was(void **state) {
  (void)state;
  int percent = midden_set_percent(150);
  assert_int_equal(midden_set_percent(-1), 150);
  assert_int_equal(midden_set_percent(0), -1);
  assert_int_equal(midden_set_percent(INT_MIN), 0);
  assert_int_equal(midden_set_percent(percent), -1);
  unsigned markers = midden_set_markers(2);
  assert_int_equal(midden_set_markers(markers), 2);
  size_t limit = midden_set_memory_limit((size_t)1 << 40);
  assert_int_equal(midden_set_memory_limit(limit), (size_t)1 << 40);
}

static void test_stats_of_another_size(void **state) {
  (void)state;
  union {
    struct midden_stats stats;
    unsigned char bytes[2 * sizeof(struct midden_stats)];
  } buffer;
  const size_t part = offsetof(struct midden_stats, heap_idle);
  memset(&buffer, 0xee, sizeof(buffer));
  buffer.stats.size = part;
  midden_stats(&buffer.stats);
  assert_int_equal(buffer.stats.size, part);
  assert_true(buffer.stats.heap_in_use <= buffer.stats.heap_system);
  for (size_t i = part; i < sizeof(buffer); i++) assert_int_equal(buffer.bytes[i], 0xee);
  buffer.stats.size = sizeof(buffer); /* of a later version */
  midden_stats(&buffer.stats);
  assert_int_equal(buffer.stats.threads, 1);
  for (size_t i = sizeof(buffer.stats); i < sizeof(buffer); i++) assert_int_equal(buffer.bytes[i], 0xee);
}

static void test_empty_functions(void **state) {
  (void)state;
  midden_set_root_callback(NULL, NULL);
  midden_set_event_callback(NULL, NULL);
  midden_set_finalizer_notify(NULL, NULL);
  midden_set_out_of_memory(NULL);
  midden_set_module_filter(NULL);
  midden_set_fatal_hook(NULL);
  midden_free(NULL);
  midden_collect();
  assert_true(midden_owns(midden_realloc(NULL, 0))); /* as midden_alloc(0) */
  void *object = midden_realloc(NULL, 100);
  assert_int_equal(midden_kind_of(object), MIDDEN_CONSERVATIVE);
  assert_null(midden_realloc(object, 0));
  assert_false(midden_owns(object));
  assert_int_equal(midden_version(), MIDDEN_VERSION_MAJOR << 16 | MIDDEN_VERSION_MINOR << 8 | MIDDEN_VERSION_PATCH);
}

/* ---- starting and attaching ---- */

static int start_twice(void *argument) {
  struct midden_options options = {.size = sizeof(options), .percent = 77};
  (void)argument;
  REQUIRE(midden_init(&options) == 0, "midden_init");
  options.percent = 88;
  REQUIRE(midden_init(&options) == -EALREADY && midden_init(NULL) == -EALREADY, "midden_init twice");
  REQUIRE(midden_set_percent(100) == 77, "the second options were applied");
  return 0;
}

/* The first call of all. */
static int start_by_attaching(void *base) {
  REQUIRE(midden_thread_attach_at(base) == 0, "midden_thread_attach_at");
  REQUIRE(midden_thread_stack_base() == base, "the base is %p, not %p", midden_thread_stack_base(), base);
  return 0;
}

static int start_with(void *argument) {
  int error = midden_init(argument);
  REQUIRE(error == -EINVAL, "midden_init: %d", error);
  struct midden_options good = {.size = sizeof(good)};
  REQUIRE(midden_init(&good) == 0, "no start after one that was refused");
  REQUIRE(midden_alloc(100) != NULL, "out of memory");
  return 0;
}

static int start_widely(void *argument) { return midden_init(argument) == 0 ? 0 : 1; }

static void test_options(void **state) {
  (void)state;
  struct midden_options bad[] = {
      {.size = 0},
      {.size = sizeof(bad[0]), .mode = (enum midden_mode)77},
      {.size = sizeof(bad[0]), .percent = -2},
      {.size = sizeof(bad[0]), .percent = 100001},
      {.size = sizeof(bad[0]), .markers = 65},
      {.size = sizeof(bad[0]), .trace = 2},
      {.size = sizeof(bad[0]), .background = 2},
      {.size = sizeof(bad[0]), .background = -2},
      {.size = sizeof(bad[0]), .scavenge_after_ms = -2},
      {.size = sizeof(bad[0]), .idle_collect_ms = INT_MAX},
      {.size = sizeof(bad[0]), .profile_sample_bytes = SIZE_MAX},
      {.size = sizeof(bad[0]), .generations = (enum midden_generations)7},
      {.size = sizeof(bad[0]), .brief_stop_us = 1000001},
      {.size = sizeof(bad[0]), .suspend_signal = 1000},
      {.size = sizeof(bad[0]), .suspend_signal = -1},
      {.size = sizeof(bad[0]), .suspend_signal = SIGKILL},
      {.size = sizeof(bad[0]), .suspend_signal = SIGSEGV},
      {.size = sizeof(bad[0]), .suspend_signal = 32}, /* the C library's own */
      {.size = sizeof(bad[0]), .debug = 1u << 30},
  };
  struct midden_options widest = {.size = sizeof(widest),
                                  .percent = 100000,
                                  .markers = 64,
                                  .background = -1,
                                  .scavenge_after_ms = 1000000000,
                                  .idle_collect_ms = -1,
                                  .brief_stop_us = 1000000};
  test_child_succeeds("start twice", start_twice, NULL, CHILD_SECONDS);
  test_child_succeeds("start by attaching", start_by_attaching, bad + TEST_COUNT_OF(bad), CHILD_SECONDS);
  test_child_succeeds("the widest", start_widely, &widest, CHILD_SECONDS);
  for (size_t i = 0; i < TEST_COUNT_OF(bad); i++) {
    char what[40];
    snprintf(what, sizeof(what), "options %zu", i);
    test_child_succeeds(what, start_with, &bad[i], CHILD_SECONDS);
  }
}

static int set_signals(void *argument) {
  static const int bad[] = {-1, 0, 32, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, 1000};
  int before = midden_suspend_signal();
  for (size_t i = 0; i < TEST_COUNT_OF(bad); i++)
    REQUIRE(midden_set_suspend_signal(bad[i]) == -EINVAL, "signal %d is taken", bad[i]);
  REQUIRE(midden_suspend_signal() == before, "a signal that was refused is used");
  REQUIRE(midden_set_suspend_signal(SIGURG) == 0 && midden_suspend_signal() == SIGURG, "SIGURG");
  return argument != NULL;
}

static void test_suspend_signals(void **state) {
  (void)state;
  test_child_succeeds("suspend signals", set_signals, NULL, CHILD_SECONDS);
}

static void *attach_and_detach(void *argument) {
  REQUIRE(!midden_thread_is_attached(), "a fresh thread is attached");
  REQUIRE(midden_thread_detach() == -ESRCH, "detach before attach");
  REQUIRE(midden_thread_attach() == 0 && midden_thread_attach() == 0, "attach twice");
  REQUIRE(midden_thread_is_attached(), "attached");
  char *base = midden_thread_stack_base(), here;
  REQUIRE(base > &here && base - &here < 64 << 20, "stack base %p, stack pointer %p", base, (void *)&here);
  REQUIRE(midden_thread_detach() == 0 && midden_thread_detach() == -ESRCH, "detach twice");
  REQUIRE(midden_thread_attach_at(base) == 0 && midden_thread_stack_base() == base, "attach at %p", base);
  REQUIRE(midden_alloc(100) != NULL, "out of memory");
  return argument;
}

static void test_attaching(void **state) {
  (void)state;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, attach_and_detach, NULL), 0);
  pthread_join(thread, NULL);
}

/* ---- stopping the world ---- */

static void *stop_and_resume(void *argument) {
  midden_world_stop();
  midden_collect(); /* nothing comes of it */
  midden_world_resume();
  return argument;
}

/* Everything may be called inside; and who called keeps the lock until its call is over. */
static void *stop_twice_inside(void *argument) {
  uint64_t before = test_stats().collections;
  stop_and_resume(NULL);
  midden_collect();
  stop_and_resume(NULL);
  midden_collect();
  REQUIRE(test_stats().collections == before, "a collection inside midden_locked_call");
  return argument;
}

static int stop_in_many_ways(void *argument) {
  void *volatile object = midden_alloc(100);
  stop_and_resume(NULL);
  midden_locked_call(stop_twice_inside, NULL);
  uint64_t before = test_stats().collections;
  midden_collect();
  REQUIRE(test_stats().collections == before + 1 && midden_owns(object), "no collection after it");
  stop_and_resume(argument);
  return 0;
}

static void test_stopping_the_world(void **state) {
  (void)state;
  test_child_succeeds("stops", stop_in_many_ways, NULL, CHILD_SECONDS);
}

/* ---- calls out of order ---- */

static int stop_in_a_stop(void *argument) {
  midden_world_stop();
  midden_world_stop();
  return argument == NULL;
}

static int resume_alone(void *argument) {
  midden_alloc(1);
  midden_world_resume();
  return argument == NULL;
}

static int enter_twice(void *argument) {
  midden_blocking_enter();
  midden_blocking_enter();
  return argument == NULL;
}

static int leave_alone(void *argument) {
  midden_blocking_leave();
  return argument == NULL;
}

static int leave_twice(void *argument) {
  midden_blocking_enter();
  midden_blocking_leave();
  return leave_alone(argument);
}

static void *do_nothing(void *argument) { return argument; }

static int call_while_blocking(void *argument) {
  midden_blocking_enter();
  midden_blocking_call(do_nothing, NULL);
  return argument == NULL;
}

static int fork_parent_alone(void *argument) {
  midden_fork_parent();
  return argument == NULL;
}

static int fork_child_alone(void *argument) {
  midden_fork_child();
  return argument == NULL;
}

static int fork_parent_twice(void *argument) {
  midden_fork_prepare();
  midden_fork_parent();
  return fork_parent_alone(argument);
}

static int fork_prepare_twice(void *argument) {
  midden_fork_prepare();
  midden_fork_prepare();
  return argument == NULL;
}

static void *stop_dispatcher(void *argument) {
  midden_dispatcher_stop();
  return argument;
}

/* It may be in a finalizer that waits to collect. */
static int stop_dispatcher_inside(void *argument) {
  midden_dispatcher_start();
  midden_locked_call(stop_dispatcher, NULL);
  return argument == NULL;
}

/* Mostly of pairs, of which the first holds what the second lets go. */
static void test_calls_out_of_order(void **state) {
  (void)state;
  static const struct {
    const char *says;
    int (*function)(void *argument);
  } cases[] = {{"midden_world_stop", stop_in_a_stop},
               {"midden_world_resume", resume_alone},
               {"midden_blocking_enter", enter_twice},
               {"midden_blocking_leave", leave_alone},
               {"midden_blocking_leave", leave_twice},
               {"midden_blocking_call", call_while_blocking},
               {"midden_fork_parent", fork_parent_alone},
               {"midden_fork_child", fork_child_alone},
               {"midden_fork_parent", fork_parent_twice},
               {"midden_fork_prepare", fork_prepare_twice},
               {"midden_dispatcher_stop", stop_dispatcher_inside}};
  for (size_t i = 0; i < TEST_COUNT_OF(cases); i++) {
    struct test_outcome outcome = test_child(cases[i].function, NULL, CHILD_SECONDS);
    REQUIRE(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT, "case %zu: status 0x%x, message: %s", i,
            (unsigned)outcome.status, outcome.message);
    REQUIRE(strstr(outcome.message, cases[i].says) != NULL, "case %zu: message: %s", i, outcome.message);
  }
}

/* ---- misuse ---- */

/* What a child does wrong, and the address that its message must name.  Both functions run in the child. */
struct misuse {
  const char *what;
  void *(*prepare)(void);
  void (*commit)(void *address);
};

static void *an_object(void) {
  midden_alloc(48);
  return midden_alloc(48);
}
static void *inside_an_object(void) { return (char *)an_object() + 16; }
static void *last_byte_of_an_object(void) { return (char *)an_object() + 47; }
static void *a_large_object(void) { return midden_alloc(200000); }
static void *inside_a_large_object(void) { return (char *)a_large_object() + 8192; }
static void *a_typed_object(void) { return midden_alloc_type(&pair_type); }
static void *a_root_object(void) { return midden_alloc_root(64); }
static void *inside_a_tiny_object(void) { return (char *)midden_alloc_data(8) + 3; }
static void *end_at_once(void *unused) { return unused; }
static void *a_fiber(void) { return midden_fiber_new(end_at_once, NULL, 0); }
static void *inside_malloc(void) {
  midden_alloc(1);
  return malloc(100);
}
static void *static_data(void) {
  midden_alloc(1);
  return static_bytes;
}
static void *one(void) {
  midden_alloc(1);
  return (void *)1;
}
static void *minus_one(void) {
  midden_alloc(1);
  return (void *)UINTPTR_MAX;
}
static void *end_of_heap(void) {
  uintptr_t start, end;
  midden_alloc(1);
  midden_heap_bounds(&start, &end);
  return (void *)end;
}
static void *last_word_of_heap(void) { return (char *)end_of_heap() - 8; }

/* An object that died, and whose memory was swept. */
NOINLINE_TEST static uintptr_t dead_object_hidden(void) {
  void **volatile object = NULL;
  for (int i = 0; i < 1000; i++) object = midden_alloc(96);
  return test_hide((void *)object);
}
static void *a_dead_object(void) {
  uintptr_t hidden = dead_object_hidden();
  for (int i = 0; i < 2; i++) test_collect_clean();
  return test_unhide(hidden);
}

static void free_once(void *address) { midden_free(address); }
static void free_twice(void *address) {
  midden_free(address);
  midden_free(address);
}
static void free_twice_among_others(void *address) {
  void *other = midden_alloc(48);
  midden_free(address);
  midden_free(other);
  midden_free(address);
}
static void realloc_it(void *address) {
  if (midden_realloc(address, 5000) == NULL) return;
}
static void realloc_in_place(void *address) {
  if (midden_realloc(address, 4) == NULL) return;
}
static void realloc_after_free(void *address) {
  midden_free(address);
  realloc_it(address);
}

static const struct misuse misuses[] = {
    {"double free", an_object, free_twice},
    {"double free with another between", an_object, free_twice_among_others},
    {"double free of a large object", a_large_object, free_twice},
    {"double free of a typed object", a_typed_object, free_twice},
    {"double free of a root object", a_root_object, free_twice},
    {"free of a dead object", a_dead_object, free_once},
    {"free of a slot to come", a_slot_to_come, free_once},
    {"free inside an object", inside_an_object, free_once},
    {"free of an object's last byte", last_byte_of_an_object, free_once},
    {"free inside a large object", inside_a_large_object, free_once},
    {"free of a fiber", a_fiber, free_once},
    {"free of malloc's memory", inside_malloc, free_once},
    {"free of static data", static_data, free_once},
    {"free of 1", one, free_once},
    {"free of -1", minus_one, free_once},
    {"free of the heap's end", end_of_heap, free_once},
    {"free of the heap's last word", last_word_of_heap, free_once},
    {"realloc inside an object", inside_an_object, realloc_it},
    {"realloc inside a tiny object", inside_a_tiny_object, realloc_in_place},
    {"realloc of malloc's memory", inside_malloc, realloc_it},
    {"realloc after free", an_object, realloc_after_free},
};

/* Says the address first, then errs.  Coming back is the failure. */
static int misuse_child(void *argument) {
  const struct misuse *misuse = argument;
  void *address = misuse->prepare();
  dprintf(STDERR_FILENO, "ADDRESS %p\n", address);
  misuse->commit(address);
  return 0;
}

/* The message names the function, the address and what is there. */
static void check_message(const struct misuse *misuse, const char *message) {
  char address[32];
  REQUIRE(sscanf(message, "ADDRESS %31s", address) == 1, "%s: said %s", misuse->what, message);
  const char *said = strchr(message, '\n') + 1;
  const char *starts = strstr(misuse->what, "realloc") != NULL ? "midden: midden_realloc(" : "midden: midden_free(";
  REQUIRE(strncmp(said, starts, strlen(starts)) == 0, "%s: message is: %s", misuse->what, said);
  REQUIRE(strstr(said, address) != NULL, "%s: the message does not name %s: %s", misuse->what, address, said);
  REQUIRE(strstr(said, "span") != NULL || strstr(said, "heap") != NULL,
          "%s: the message does not say what is there: %s", misuse->what, said);
  printf("  %s: %s", misuse->what, said);
}

static void test_misuse(void **state) {
  (void)state;
  for (size_t i = 0; i < TEST_COUNT_OF(misuses); i++) {
    struct test_outcome outcome = test_child(misuse_child, (void *)(uintptr_t)&misuses[i], CHILD_SECONDS);
    REQUIRE(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT, "%s: status 0x%x, message: %s",
            misuses[i].what, (unsigned)outcome.status, outcome.message);
    check_message(&misuses[i], outcome.message);
  }
}

static void fatal_hook(const char *message) { dprintf(STDERR_FILENO, "HOOK %s\n", message); }

static int hook_child(void *argument) {
  (void)argument;
  midden_set_fatal_hook(fatal_hook);
  free_once(inside_an_object());
  return 0;
}

static void test_fatal_hook(void **state) {
  (void)state;
  struct test_outcome outcome = test_child(hook_child, NULL, CHILD_SECONDS);
  assert_true(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT);
  assert_non_null(strstr(outcome.message, "HOOK "));
}

int main(void) {
  test_start("test_api_arguments");
  const struct CMUnitTest tests[] = {
      /* First, before anything starts the library: their children start it themselves. */
      cmocka_unit_test(test_options),
      cmocka_unit_test(test_misuse),
      cmocka_unit_test(test_fatal_hook),
      cmocka_unit_test(test_calls_out_of_order),
      cmocka_unit_test(test_questions_about_strangers),
      cmocka_unit_test(test_questions_about_slots_to_come),
      cmocka_unit_test(test_sizes_of_typed_objects),
      cmocka_unit_test(test_sizes_of_tiny_objects),
      cmocka_unit_test(test_questions_inside_objects),
      cmocka_unit_test(test_size_zero),
      cmocka_unit_test(test_huge_sizes),
      cmocka_unit_test(test_array_overflow),
      cmocka_unit_test(test_alignment),
      cmocka_unit_test(test_copies_of_words),
      cmocka_unit_test(test_unknown_kinds),
      cmocka_unit_test(test_new_kinds),
      cmocka_unit_test(test_bits_beyond_a_type),
      cmocka_unit_test(test_root_ranges),
      cmocka_unit_test(test_weak_links_to_strangers),
      cmocka_unit_test(test_collect_unless),
      cmocka_unit_test(test_disable),
      cmocka_unit_test(test_marks_in_events),
      cmocka_unit_test(test_settings_return_what_was),
      cmocka_unit_test(test_stats_of_another_size),
      cmocka_unit_test(test_empty_functions),
      cmocka_unit_test(test_suspend_signals),
      cmocka_unit_test(test_attaching),
      cmocka_unit_test(test_stopping_the_world),
  };
  return test_run_group(tests);
}
