/* The size class tables: every size goes to the smallest class that holds it, every offset to its slot, and no class
 * wastes more of its span than was promised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bits.h"
#include "page/span.h"
#include "span/size_class.h"

static size_t span_bytes_of(unsigned size_class) { return (size_t)size_class_pages[size_class] * PAGE_BYTES; }

static void class_zero_stands_for_large_objects(void **state) {
  (void)state;
  assert_int_equal(size_class_bytes[0], 0);
  assert_int_equal(size_class_pages[0], 0);
  assert_int_equal(size_class_slots[0], 0);
  assert_int_equal(size_class_slot_of(12345, size_class_magic[0]), 0);
}

static void classes_grow_in_multiples_of_16(void **state) {
  (void)state;
  for (unsigned size_class = 1; size_class < SIZE_CLASS_COUNT; size_class++) {
    assert_true(size_class_bytes[size_class] > size_class_bytes[size_class - 1]);
    assert_int_equal(size_class_bytes[size_class] % 16, 0);
  }
  assert_int_equal(size_class_bytes[SIZE_CLASS_COUNT - 1], SIZE_CLASS_MAX_BYTES);
  assert_true(SIZE_CLASS_COUNT <= 96);
}

static void every_size_has_the_smallest_class_that_holds_it(void **state) {
  (void)state;
  for (size_t bytes = 1; bytes <= SIZE_CLASS_MAX_BYTES; bytes++) {
    unsigned size_class = size_class_of(bytes);
    assert_in_range(size_class, 1, SIZE_CLASS_COUNT - 1);
    assert_true(size_class_bytes[size_class] >= bytes);
    assert_true(size_class_bytes[size_class - 1] < bytes);
  }
  assert_int_equal(size_class_of(0), size_class_of(1));
}

static void every_power_of_two_is_a_class(void **state) {
  (void)state;
  for (size_t bytes = 16; bytes <= SIZE_CLASS_MAX_BYTES; bytes *= 2) {
    unsigned size_class = size_class_of(bytes);
    assert_int_equal(size_class_bytes[size_class], bytes);
    assert_int_equal(size_class_slots[size_class] * bytes, span_bytes_of(size_class));
  }
}

static void every_offset_falls_into_its_slot(void **state) {
  (void)state;
  for (unsigned size_class = 1; size_class < SIZE_CLASS_COUNT; size_class++) {
    for (size_t offset = 0; offset < span_bytes_of(size_class); offset++) {
      size_t slot = size_class_slot_of(offset, size_class_magic[size_class]);
      if (slot != offset / size_class_bytes[size_class])
        fail_msg("class %u, offset %zu: slot %zu", size_class, offset, slot);
    }
  }
}

static void spans_hold_whole_slots_and_enough_of_them(void **state) {
  (void)state;
  for (unsigned size_class = 1; size_class < SIZE_CLASS_COUNT; size_class++) {
    assert_in_range(size_class_pages[size_class], 1, 16);
    assert_int_equal(size_class_slots[size_class], span_bytes_of(size_class) / size_class_bytes[size_class]);
    size_t wanted = max_size(2, min_size(8, 65536 / size_class_bytes[size_class]));
    assert_true(size_class_slots[size_class] >= wanted);
    assert_true(size_class_slots[size_class] <= SIZE_CLASS_SLOTS_MAX);
  }
}

/* Full of the smallest objects of its class, a span wastes at most an eighth.  Below 128 bytes the step of 16 is itself
 * more than that, and only the tail behind the last slot counts. */
static void waste_is_bounded(void **state) {
  (void)state;
  for (unsigned size_class = 1; size_class < SIZE_CLASS_COUNT; size_class++) {
    size_t slots_bytes = (size_t)size_class_slots[size_class] * size_class_bytes[size_class];
    size_t waste = span_bytes_of(size_class) - slots_bytes;
    if (size_class_bytes[size_class] >= 128) {
      waste += size_class_slots[size_class] * (size_class_bytes[size_class] - size_class_bytes[size_class - 1] - 1);
    }
    if (waste * 8 > span_bytes_of(size_class))
      fail_msg("class %u wastes %zu of %zu", size_class, waste, span_bytes_of(size_class));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(class_zero_stands_for_large_objects),
      cmocka_unit_test(classes_grow_in_multiples_of_16),
      cmocka_unit_test(every_size_has_the_smallest_class_that_holds_it),
      cmocka_unit_test(every_power_of_two_is_a_class),
      cmocka_unit_test(every_offset_falls_into_its_slot),
      cmocka_unit_test(spans_hold_whole_slots_and_enough_of_them),
      cmocka_unit_test(waste_is_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
