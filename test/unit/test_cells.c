/* Dead weak references are looked for beside the program: a slot of a window that is given back meanwhile, and in which another thread
 * makes a weak reference, is not taken for one of them.
 *
 * Who looks finds the slot allocated and not marked, and is held up where it reads what is in it: the slot's page cannot be read.
 * What the others do happens in the handler of that fault. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "alloc/cache.h"
#include "gc/cell.h"
#include "mutator/mutator.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "support/heap_test.h"

static void *target;
static struct midden_weak *first, *second;
static uintptr_t page, page_bytes;
static unsigned faults;

static uintptr_t next_slot(void) {
  const struct cache_bin *bin = cache_bin_of(&mutator_self()->cache, KIND_WEAK, size_class_of(sizeof(struct cell)));
  return bin->next < bin->limit ? (uintptr_t)bin->next : 0;
}

static void set_marked(const void *object, bool marked) {
  if (marked) {
    mark_bit_set(&heap_arena, mark_side(), (uintptr_t)object);
  } else {
    mark_bit_clear(&heap_arena, mark_side(), (uintptr_t)object);
  }
}

static void protect(int protection) { REQUIRE(mprotect((void *)page, page_bytes, protection) == 0, "mprotect"); }

/* Slots that are claimed beside a cycle are marked before they are allocated. */
static void on_fault(int signal) {
  (void)signal;
  protect(PROT_READ | PROT_WRITE);
  faults++;
  set_marked((void *)next_slot(), true);
  second = midden_weak_new(target);
}

static void one_that_is_made_meanwhile_keeps_its_target(void **state) {
  (void)state;
  struct sigaction action = {.sa_handler = on_fault}, before;
  REQUIRE(sigaction(SIGSEGV, &action, &before) == 0, "sigaction");
  target = midden_alloc(64);
  first = midden_weak_new(target);
  uintptr_t slot = next_slot();
  REQUIRE(first != NULL && slot != 0, "no slot is left in the window");
  set_marked(first, true);
  page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
  page = slot & ~(page_bytes - 1);
  protect(PROT_NONE);
  cell_drop_dead_in((slot - heap_arena.start) >> CHUNK_SHIFT);
  sigaction(SIGSEGV, &before, NULL);
  assert_int_equal(faults, 1);
  assert_ptr_equal(second, (void *)slot);
  assert_ptr_equal(midden_weak_get(first), target);
  assert_ptr_equal(midden_weak_get(second), target);
  set_marked(second, false);
  cell_drop_dead_in((slot - heap_arena.start) >> CHUNK_SHIFT);
  assert_ptr_equal(midden_weak_get(first), target);
  assert_null(midden_weak_get(second));
  set_marked(first, false);
  midden_verify();
}

/* ---- records ---- */

static bool has_record(const void *object) {
  struct span *span = object_span((uintptr_t)object);
  lock_acquire(special_lock(span));
  bool has = special_find_locked(span, (uintptr_t)object, SPECIAL_WEAK) != NULL;
  lock_release(special_lock(span));
  return has;
}

/* Else each object that a weak reference ever named would keep one, as long as it lives. */
static void a_target_that_none_names_has_no_record(void **state) {
  (void)state;
  void *object = midden_alloc(64), *other = midden_alloc(64);
  struct midden_weak *one = midden_weak_new(object), *two = midden_weak_new(object);
  REQUIRE(one != NULL && two != NULL, "out of memory");
  assert_int_equal(midden_weak_set(one, other), 0);
  assert_true(has_record(object) && has_record(other));
  assert_int_equal(midden_weak_set(two, NULL), 0);
  assert_false(has_record(object));
  midden_free(one);
  assert_false(has_record(other));
}

int main(void) {
  struct midden_options options = {.size = sizeof options, .mode = MIDDEN_MODE_STW};
  REQUIRE(midden_init(&options) == 0, "no start");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  if (guard_active) return TEST_SKIPPED; /* no window holds a slot */
  const struct CMUnitTest tests[] = {cmocka_unit_test(one_that_is_made_meanwhile_keeps_its_target),
                                     cmocka_unit_test(a_target_that_none_names_has_no_record)};
  return test_run_group(tests);
}
