/* Guarded objects: sizes are exact, every way to allocate works, and each kind of damage is found at each place where it
 * is looked for, with a message that tells where it is. */
#include "support/heap_test.h"

#include <setjmp.h>

#include <cmocka.h>

#include "span/guard.h"

/* ---- what works ---- */

static void fill(void *object, size_t bytes) { memset(object, 0x5a, bytes); }

static void test_sizes_are_exact(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 100, 1000, 4096, 8191, 32744, 32745, 32768, 32769, 1 << 20};
  static const midden_kind kinds[] = {MIDDEN_DATA, MIDDEN_CONSERVATIVE, MIDDEN_RAW, MIDDEN_ROOT, MIDDEN_ROOT_DATA};
  for (size_t i = 0; i < TEST_COUNT_OF(sizes); i++) {
    for (size_t k = 0; k < TEST_COUNT_OF(kinds); k++) {
      size_t expected = sizes[i] == 0 ? 1 : sizes[i];
      char *object = midden_alloc_kind(kinds[k], sizes[i]);
      assert_int_equal(midden_size(object), expected);
      assert_true((uintptr_t)object % 16 == 0);
      assert_ptr_equal(midden_base(object + expected - 1), object);
      assert_false(midden_owns(object + expected));
      fill(object, expected);
      midden_free(object);
      assert_false(midden_owns(object));
    }
  }
}

static void test_tiny_objects_share_nothing(void **state) {
  (void)state;
  for (size_t bytes = 0; bytes <= 8; bytes++) {
    char *one = midden_alloc_data(bytes), *other = midden_alloc_data(bytes);
    assert_ptr_equal(midden_base(one), one);
    assert_ptr_equal(midden_base(other), other);
    assert_int_equal(midden_kind_of(one), MIDDEN_DATA);
    midden_free(one);
    assert_true(midden_owns(other));
  }
}

static void test_aligned(void **state) {
  (void)state;
  for (size_t alignment = 1; alignment <= 1 << 16; alignment *= 2) {
    for (size_t bytes = 1; bytes <= 20000; bytes = bytes * 3 + 1) {
      char *object = midden_alloc_aligned(MIDDEN_CONSERVATIVE, alignment, bytes);
      assert_true((uintptr_t)object % alignment == 0);
      assert_int_equal(midden_size(object), bytes);
      fill(object, bytes);
      midden_free(object);
    }
  }
}

static void test_realloc_keeps_the_contents(void **state) {
  (void)state;
  unsigned char *object = midden_alloc(1);
  object[0] = 1;
  for (size_t bytes = 2; bytes < 50000; bytes = bytes * 2 + 1) {
    size_t before = midden_size(object);
    object = midden_realloc(object, bytes);
    assert_int_equal(midden_size(object), bytes);
    assert_int_equal(object[0], 1);
    for (size_t i = before; i < bytes; i++) assert_int_equal(object[i], 0);
  }
  object = midden_realloc(object, 3);
  assert_int_equal(object[0], 1);
  assert_null(midden_realloc(object, 0));
}

static void test_absurd_sizes(void **state) {
  (void)state;
  static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2 + 1, SIZE_MAX / 2};
  for (size_t i = 0; i < TEST_COUNT_OF(sizes); i++) {
    assert_null(midden_alloc(sizes[i]));
    assert_null(midden_alloc_aligned(MIDDEN_RAW, 4096, sizes[i]));
  }
}

struct pair {
  void *reference;
  long number;
};

static const uint64_t pair_pointers = 1;
static const struct midden_type pair_type = {"pair", sizeof(struct pair), &pair_pointers, NULL, NULL};

static void test_typed_objects_are_marked_through(void **state) {
  (void)state;
  struct pair *array = midden_alloc_array(&pair_type, 1000);
  assert_int_equal(midden_size(array), 1000 * sizeof(*array));
  for (long i = 0; i < 1000; i++) {
    struct pair *pair = midden_alloc_type(&pair_type);
    assert_int_equal(midden_size(pair), sizeof(*pair));
    *pair = (struct pair){NULL, i};
    array[i] = (struct pair){pair, -1};
  }
  midden_collect();
  for (long i = 0; i < 1000; i++) assert_int_equal(((struct pair *)array[i].reference)->number, i);
}

static size_t traced_bytes;

static void trace_whole(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)argument;
  traced_bytes = slot_bytes;
  midden_trace_range(tracer, object, (char *)object + slot_bytes);
}

static void test_trace_functions_see_the_object_alone(void **state) {
  (void)state;
  struct midden_kind_options options = {.size = sizeof(options), .name = "traced", .trace = trace_whole};
  int kind = midden_kind_new(&options);
  assert_true(kind > 0);
  static void *volatile holder;
  static const size_t sizes[] = {8, 20, 100, 70000};
  for (size_t i = 0; i < TEST_COUNT_OF(sizes); i++) {
    holder = midden_alloc_kind((midden_kind)kind, sizes[i]);
    midden_collect();
    assert_int_equal(traced_bytes, (sizes[i] + 7) / 8 * 8);
    assert_int_equal(midden_size(holder), traced_bytes);
  }
  holder = NULL;
}

static void test_many(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 8, 100, 32760};
  for (size_t i = 0; i < TEST_COUNT_OF(sizes); i++) {
    void *list;
    size_t count = midden_alloc_many(MIDDEN_CONSERVATIVE, sizes[i], &list), seen = 0;
    for (void **object = list; object != NULL; object = *object) seen++;
    assert_int_equal(seen, count);
    assert_true(count >= 1);
  }
}

/* ---- what is found ---- */

enum place { AT_FREE, AT_COLLECTION, AT_VERIFY, AT_ALLOCATION };

struct damage {
  const char *name;
  size_t bytes;  /* of the object */
  size_t offset; /* that is written to */
  bool is_free;  /* the object was freed before */
  enum place at; /* where it is found */
  const char *expected;
};

static volatile uintptr_t hidden;

NOINLINE_TEST static void damage_object(const struct damage *damage) {
  volatile char *object = midden_alloc_kind(MIDDEN_CONSERVATIVE, damage->bytes);
  hidden = test_hide((void *)object);
  if (damage->is_free) midden_free((void *)object);
  object[damage->offset] = 7;
}

static void allocate_until_reused(size_t bytes) {
  for (int i = 0; i < 100000; i++) {
    if (test_hide(midden_alloc_kind(MIDDEN_CONSERVATIVE, bytes)) == hidden) return;
  }
}

static int run_damage(void *argument) {
  const struct damage *damage = argument;
  damage_object(damage);
  switch (damage->at) {
    case AT_FREE:
      midden_free(test_unhide(hidden));
      break;
    case AT_COLLECTION:
      test_collect_clean();
      break;
    case AT_VERIFY:
      midden_verify();
      break;
    case AT_ALLOCATION:
      allocate_until_reused(damage->bytes);
      break;
  }
  return 0;
}

static void test_damage_is_found(void **state) {
  (void)state;
  static const struct damage cases[] = {
      {"first byte, freed", 40, 40, false, AT_FREE, "size 40, kind conservative: damaged at offset 40, bytes 07 fb"},
      {"tail of the zone, freed", 40, 55, false, AT_FREE, "size 40, kind conservative: damaged at offset 55, bytes 07"},
      {"size word, freed", 40, 63, false, AT_FREE, "written far beyond the end of an object"},
      {"size alone, freed", 40, 57, false, AT_FREE, "written far beyond the end of an object"},
      {"odd size, collected", 13, 13, false, AT_COLLECTION, "size 13, kind conservative: damaged at offset 13"},
      {"large, collected", 100000, 100001, false, AT_COLLECTION,
       "size 100000, kind conservative: damaged at offset 100001"},
      {"large, freed", 100000, 100000, false, AT_FREE, "damaged at offset 100000, bytes 07 fb"},
      {"alive, verified", 40, 41, false, AT_VERIFY, "size 40, kind conservative: damaged at offset 41, bytes 07 fb"},
      {"written after free, collected", 40, 8, true, AT_COLLECTION, "written to a free slot"},
      {"written after free, verified", 40, 0, true, AT_VERIFY, "damaged at offset 0, bytes 07 df df"},
      {"written after free, zone, verified", 40, 63, true, AT_VERIFY, "damaged at offset 63, bytes 07 00"},
  };
  for (size_t i = 0; i < TEST_COUNT_OF(cases); i++) {
    struct damage damage = cases[i];
    struct test_outcome outcome = test_child(run_damage, &damage, 20);
    REQUIRE(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT, "%s: status 0x%x: %s", damage.name,
            (unsigned)outcome.status, outcome.message);
    REQUIRE(strstr(outcome.message, damage.expected) != NULL, "%s: %s", damage.name, outcome.message);
  }
}

/* The slot was swept, so that the next span of its class hands it out: nothing but the allocation has looked. */
static int write_to_collected(void *argument) {
  (void)argument;
  struct damage damage = {.bytes = 40, .offset = 8};
  static void *keep; /* a neighbour, for the span to stay */
  keep = midden_alloc(40);
  damage_object(&damage);
  test_collect_clean();
  *(volatile char *)test_unhide(hidden) = 1;
  allocate_until_reused(40);
  return keep == NULL;
}

static void test_write_after_collection_is_found(void **state) {
  (void)state;
  struct test_outcome outcome = test_child(write_to_collected, NULL, 20);
  REQUIRE(WIFSIGNALED(outcome.status), "status 0x%x: %s", (unsigned)outcome.status, outcome.message);
  REQUIRE(strstr(outcome.message, "written to a free slot, after its object was freed or collected") != NULL &&
              strstr(outcome.message, "damaged at offset 0, bytes 01 df") != NULL,
          "%s", outcome.message);
}

int main(void) {
  test_start("test_guard");
  unsetenv("MIDDEN_DEBUG");
  struct midden_options options = {.size = sizeof(options),
                                   .debug = MIDDEN_DEBUG_REDZONE | MIDDEN_DEBUG_POISON | MIDDEN_DEBUG_NO_TOOLS};
  if (midden_init(&options) != 0 || !guard_active || !guard_poison) return 1;
  const struct CMUnitTest tests[] = {
      test_scrubbed(test_sizes_are_exact),
      test_scrubbed(test_tiny_objects_share_nothing),
      test_scrubbed(test_aligned),
      test_scrubbed(test_realloc_keeps_the_contents),
      test_scrubbed(test_absurd_sizes),
      test_scrubbed(test_typed_objects_are_marked_through),
      test_scrubbed(test_trace_functions_see_the_object_alone),
      test_scrubbed(test_many),
      test_scrubbed(test_damage_is_found),
      test_scrubbed(test_write_after_collection_is_found),
  };
  return test_run_group(tests);
}
