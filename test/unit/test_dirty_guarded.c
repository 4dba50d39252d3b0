/* Dirty-page mode and guarded objects with types, on a forced schedule: a marker finds the slot of one that is being made, its
 * allocation bit set and its memory not yet cleared.  What stands where the type will be is poison, which no marker may follow:
 * not when it scans what it found, nor when the page is scanned again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gc/assist.h"
#include "span/guard.h"
#include "support/cycle_steps.h"
#include "support/dirty_test.h"

enum { BALLAST_BYTES = 4 << 20, VALUE = 0x5eed, LARGE_COUNT = 4096, SECONDS = 60 };

struct pair {
  struct pair *reference;
  uintptr_t value;
};

static const uint64_t pair_pointers = 1;
static const struct midden_type pair_type = {"pair", sizeof(struct pair), &pair_pointers, NULL, NULL};

static void *volatile ballast; /* heaps of less than a megabyte are marked in a stop */
static struct pair *made;

static struct {
  bool waits;              /* the next object with a type, before it is cleared */
  sem_t drained;           /* the driver has marked all that it found */
  uintptr_t volatile hint; /* static data, a conservative reference: a marker finds the slot */
} plan;

/* ---- the collector's side ---- */

void __real_assist_drain(struct cycle *running);
void __wrap_assist_drain(struct cycle *running);

void __wrap_assist_drain(struct cycle *running) {
  __real_assist_drain(running);
  sem_post(&plan.drained);
}

/* ---- the program's side ---- */

/* In the critical section that took the slot: the first drain scans what the roots lead to, the second what was written. */
__attribute__((no_sanitize("address"))) static void have_it_found(const struct span *span, uintptr_t slot) {
  volatile unsigned char *bytes = (unsigned char *)slot;
  REQUIRE(bytes[span_slot_bytes(span) - 1] == POISON_BYTE, "the memory was cleared before");
  bytes[0] = POISON_BYTE; /* as it was; its page was written */
  plan.hint = slot;
  cycle_go_on(&cycle.scanned);
  await(&plan.drained);
  await(&plan.drained);
  REQUIRE(mark_bit_get(&heap_arena, mark_side(), slot), "no marker found it");
}

void __real_guard_allocated(const struct span *span, uintptr_t slot, size_t bytes);
void __wrap_guard_allocated(const struct span *span, uintptr_t slot, size_t bytes);

void __wrap_guard_allocated(const struct span *span, uintptr_t slot, size_t bytes) {
  if (plan.waits && span->kind == MIDDEN_TYPED) {
    plan.waits = false;
    have_it_found(span, slot);
  }
  __real_guard_allocated(span, slot, bytes);
}

static void start(void) {
  cycle_init_dirty(MIDDEN_GENERATIONS_AUTO, MIDDEN_DEBUG_POISON | MIDDEN_DEBUG_CHECK | MIDDEN_DEBUG_VERIFY);
  sem_init(&plan.drained, 0, 0);
  ballast = midden_alloc(BALLAST_BYTES);
  REQUIRE(ballast != NULL, "out of memory");
}

/* A large object gets the memory of this one, which poison was left in. */
NOINLINE_TEST static void leave_poison(size_t bytes) { midden_free(midden_alloc_kind(MIDDEN_RAW, bytes)); }

/* The first object that has a type: before it, none tells that there may be such. */
static void make(size_t count) {
  cycle_begin(&cycle.scanned);
  plan.waits = true;
  made = midden_alloc_array(&pair_type, count);
  REQUIRE(made != NULL && !plan.waits, "out of memory");
  made[count - 1].reference = midden_alloc(sizeof(struct pair));
  made[count - 1].reference->value = VALUE;
}

/* What was left to the stop was scanned there. */
static int array_is_found_while_it_is_made(void *argument) {
  size_t count = *(size_t *)argument;
  start();
  leave_poison(count * sizeof(struct pair));
  make(count);
  plan.hint = 0;
  test_scrub_stack();
  cycle_end();
  const struct pair *kept = made[count - 1].reference;
  REQUIRE(midden_base(kept) == kept && kept->value == VALUE, "what the object refers to is lost");
  return 0;
}

static void a_small_object_is_not_read_before_it_is_cleared(void **state) {
  (void)state;
  test_child_succeeds("small", array_is_found_while_it_is_made, &(size_t){1}, SECONDS);
}

static void a_large_object_is_not_read_before_it_is_cleared(void **state) {
  (void)state;
  test_child_succeeds("large", array_is_found_while_it_is_made, &(size_t){LARGE_COUNT}, SECONDS);
}

int main(void) {
  if (!test_writes_are_told()) return TEST_SKIPPED;
  test_start("unit/dirty_guarded");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_small_object_is_not_read_before_it_is_cleared),
      cmocka_unit_test(a_large_object_is_not_read_before_it_is_cleared),
  };
  return test_run_group(tests);
}
