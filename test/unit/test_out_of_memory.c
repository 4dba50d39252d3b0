/* What the program's handler returns when memory has run out is the program's: each function that allocates passes it on as it is,
 * writes no type to it and shares it with nobody; and none takes it for an object of the library's own, or copies to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/heap_test.h"

enum { MAX_HEAP = 8 << 20, OWN_BYTES = 4096, OWN_BYTE = 0x41, ELEMENTS = 100 };

static _Alignas(16) unsigned char own[OWN_BYTES];
static size_t asked_for, calls;
static void *kept; /* a list of all that there is */

static void *give_own(size_t bytes) {
  calls++;
  asked_for = bytes;
  return own;
}

static void fill(void) {
  void **object;
  midden_set_out_of_memory(NULL);
  for (size_t bytes = OWN_BYTES; bytes >= 16; bytes /= 2) {
    while ((object = midden_alloc_root(bytes)) != NULL) *object = kept, kept = object;
  }
  while (midden_alloc_kind(MIDDEN_ROOT_DATA, 16) != NULL) continue;
  midden_set_out_of_memory(give_own);
  calls = 0;
}

static void assert_own(const void *result, size_t bytes) {
  assert_ptr_equal(result, own);
  assert_int_equal(calls, 1);
  assert_int_equal(asked_for, bytes);
  for (size_t i = 0; i < OWN_BYTES; i++) assert_int_equal(own[i], OWN_BYTE);
  calls = 0;
}

static void it_is_passed_on_as_it_is(void **state) {
  (void)state;
  static const struct midden_type type = {.name = "pair", .size = 16};
  fill();
  assert_own(midden_alloc(100), 100);
  volatile size_t most = SIZE_MAX;
  assert_own(midden_alloc(most), SIZE_MAX);
  assert_own(midden_alloc_type(&type), 16);
  assert_own(midden_alloc_array(&type, ELEMENTS), 16 * ELEMENTS);
  assert_own(midden_alloc_array(&type, SIZE_MAX), SIZE_MAX);
  assert_own(midden_alloc_data(5), 5);
  assert_own(midden_alloc_data(5), 5);
}

static void *never_run(void *argument) { return argument; }

static void assert_asked(void) {
  assert_true(calls != 0);
  calls = 0;
}

static void it_is_no_object_of_the_librarys_own(void **state) {
  (void)state;
  fill();
  assert_null(midden_weak_new(kept));
  assert_asked();
  assert_null(midden_ephemeron_new(kept, kept));
  assert_asked();
  assert_null(midden_weak_table_new());
  assert_asked();
  assert_null(midden_fiber_new(never_run, NULL, 0));
  assert_asked();
  midden_collect();
  midden_verify();
}

/* It may be smaller than what would be copied there, or linked. */
static void nothing_is_written_to_it(void **state) {
  (void)state;
  enum { FIRST = 3 * OWN_BYTES, MORE = 8 * OWN_BYTES };
  unsigned char *object = midden_alloc(FIRST);
  memset(object, OWN_BYTE + 1, FIRST);
  fill();
  assert_null(midden_realloc(object, MORE));
  assert_own(own, MORE);
  for (size_t i = 0; i < FIRST; i++) assert_int_equal(object[i], OWN_BYTE + 1);
  void *list = object;
  assert_int_equal(midden_alloc_many(MIDDEN_CONSERVATIVE, 100, &list), 0);
  assert_null(list);
  assert_own(own, 100);
  midden_free(object);
}

/* Its array of entries. */
static void nor_a_part_of_one(void **state) {
  (void)state;
  midden_set_out_of_memory(NULL);
  struct midden_weak_table *table;
  while ((table = midden_weak_table_new()) == NULL) {
    void **freed = kept;
    kept = *freed;
    midden_free(freed);
  }
  fill();
  assert_int_equal(midden_weak_table_set(table, kept, kept), -ENOMEM);
  assert_asked();
  assert_int_equal(midden_weak_table_count(table), 0);
  midden_collect();
}

int main(void) {
  struct midden_options options = {
      .size = sizeof(options), .max_heap_bytes = MAX_HEAP, .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  memset(own, OWN_BYTE, sizeof own);
  alarm(120);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_is_written_to_it), cmocka_unit_test(it_is_passed_on_as_it_is),
      cmocka_unit_test(it_is_no_object_of_the_librarys_own), cmocka_unit_test(nor_a_part_of_one)};
  return test_run_group(tests);
}
