/* Large objects are marked in pieces, small ones at once: each word of either is read, whatever its place in them, also where there is
 * hardly any memory to note which pieces are left.  On a stack the address of an object's end refers to it, unless it is a small node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/work.h"
#include "span/guard.h"
#include "support/heap_test.h"

enum {
  PIECE_BYTES = 4096,
  LEAST_BYTES = 64,
  MOST_BYTES = 50 * PIECE_BYTES,
  SLOTS_MOST = 2 * MOST_BYTES / PIECE_BYTES + 4
};

static char *holder;
static size_t places[SLOTS_MOST], count; /* in bytes from its start */

static void add_place(size_t place) { places[count++] = place; }

/* The first word of each piece and the last. */
NOINLINE_TEST static void make(size_t bytes) {
  holder = midden_alloc(bytes);
  REQUIRE(holder != NULL, "out of memory");
  count = 0;
  for (size_t at = 0; at < bytes; at += PIECE_BYTES) {
    add_place(at);
    add_place((at + PIECE_BYTES < bytes ? at + PIECE_BYTES : bytes) - sizeof(void *));
  }
  for (size_t i = 0; i < count; i++) *(void **)(holder + places[i]) = midden_alloc(32);
}

NOINLINE_TEST static void check(size_t bytes) {
  for (size_t i = 0; i < count; i++)
    REQUIRE(midden_owns(*(void **)(holder + places[i])), "byte %zu of %zu was not read", places[i], bytes);
}

static void read_all(void) {
  for (size_t bytes = LEAST_BYTES; bytes <= MOST_BYTES; bytes += bytes < PIECE_BYTES ? bytes : PIECE_BYTES) {
    make(bytes);
    test_collect_clean();
    check(bytes);
  }
}

static void every_word_is_read(void **state) {
  (void)state;
  read_all();
}

/* ---- ends ---- */

enum { ENDS = 64, ARRAY_SLOT_BYTES = 208, NODE_BYTES = 32 };

/* Of every other one, since it is where the next begins. */
NOINLINE_TEST static void make_ends(volatile uintptr_t *ends, uintptr_t *hidden, size_t bytes) {
  for (size_t i = 0; i < ENDS; i++) {
    uintptr_t object = (uintptr_t)midden_alloc(bytes);
    midden_alloc(bytes);
    hidden[i] = ~object;
    ends[i] = object + bytes;
  }
}

static size_t count_kept_by_ends(size_t bytes) {
  static uintptr_t hidden[ENDS];
  volatile uintptr_t ends[ENDS];
  make_ends(ends, hidden, bytes);
  test_collect_clean();
  size_t kept = 0;
  for (size_t i = 0; i < ENDS; i++) kept += ends[i] != 0 && midden_owns((void *)~hidden[i]);
  return kept;
}

/* A compiler may walk an array by its end. */
static void an_end_on_a_stack_keeps_an_array_and_no_node(void **state) {
  (void)state;
  assert_int_equal(count_kept_by_ends(ARRAY_SLOT_BYTES), ENDS);
  assert_in_range(count_kept_by_ends(NODE_BYTES), 0, ENDS / 4);
}

/* ---- with little memory to note what is left ---- */

enum { ARRAY_BYTES = 1 << 20, STRIDE = 128 / sizeof(void *), OBJECTS = ARRAY_BYTES / (STRIDE * sizeof(void *)) };

static void **array;

/* All but one, which every marker can count on. */
static void take_buffers(void) {
  struct work_buffer *buffer, *last = NULL;
  work_limit_buffers(1);
  while ((buffer = work_get_empty()) != NULL) last = buffer;
  work_put_empty(last);
}

NOINLINE_TEST static void fill_array(void) {
  array = midden_alloc(ARRAY_BYTES);
  REQUIRE(array != NULL, "out of memory");
  for (size_t i = 0; i < OBJECTS; i++) array[i * STRIDE] = midden_alloc(32);
}

/* The last test: there are no others after it. */
static void so_it_is_with_a_single_buffer(void **state) {
  (void)state;
  fill_array();
  take_buffers();
  test_collect_clean();
  for (size_t i = 0; i < OBJECTS; i++) REQUIRE(midden_owns(array[i * STRIDE]), "object %zu is lost", i);
}

int main(void) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  if (guard_active) return TEST_SKIPPED; /* objects end before their memory does */
  const struct CMUnitTest tests[] = {
      test_scrubbed(every_word_is_read),
      test_scrubbed(an_end_on_a_stack_keeps_an_array_and_no_node),
      test_scrubbed(so_it_is_with_a_single_buffer),
  };
  return test_run_group(tests);
}
