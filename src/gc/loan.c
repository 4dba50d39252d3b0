#include "gc/loan.h"

#include "base/atomic.h"
#include "base/wait.h"
#include "gc/assist.h"
#include "gc/concurrent.h"
#include "gc/cycle.h"
#include "gc/handover.h"

enum { KEPT, OFFERED, TAKEN };
enum { LEND_POLL_NS = 200000, OFFER_NS = 2000000 };

static struct {
  uint32_t state;   /* atomic; see above */
  uint32_t waiting; /* atomic; threads that want to fork */
} loan;

static bool try_to_borrow(void) {
  uint32_t offered = OFFERED;
  return atomic_cas_acq_rel(&loan.state, &offered, (uint32_t)TAKEN);
}

static bool has_lock(void) { return lock_try(&collector_lock) || try_to_borrow(); }

/* False if this thread is wanted for the end of the cycle meanwhile. */
static bool borrow_while_safe(struct mutator *self, uintptr_t stack_pointer) {
  struct os_signals before;
  bool has = false;
  mutator_begin_wait(self, stack_pointer, &before);
  while (!(has = has_lock()) && !handover_is_offered()) wait_on_word_for(&loan.state, KEPT, LEND_POLL_NS);
  mutator_end_wait(self, &before);
  return has;
}

static void borrow_with_registers(uintptr_t stack_pointer, void *self) {
  while (!borrow_while_safe(self, stack_pointer)) handover_take_untold_at(self, stack_pointer);
}

void loan_acquire(struct mutator *self) {
  if (!collector.concurrent || atomic_load_relaxed(&self->state) == MUTATOR_SAFE) {
    collector_acquire(self);
    return;
  }
  if (!lock_try(&collector_lock)) {
    atomic_add_acq_rel(&loan.waiting, 1u);
    assist_wake_worker();
    os_call_with_registers(borrow_with_registers, self);
    atomic_sub_acq_rel(&loan.waiting, 1u);
  }
  atomic_store_relaxed(&collector.owner, self->thread_id);
}

void loan_acquire_to_look(struct mutator *self) {
  if (collector.dirty) {
    loan_acquire(self);
  } else {
    collector_acquire(self);
  }
}

static bool is_borrowed(void) { return atomic_load_relaxed(&loan.state) == TAKEN; }

void loan_release(void) {
  if (!is_borrowed()) {
    collector_release();
    return;
  }
  atomic_store_relaxed(&collector.owner, 0u);
  atomic_store_release(&loan.state, (uint32_t)KEPT);
  wake_all(&loan.state);
}

void loan_keep_in_child(struct mutator *self) {
  if (is_borrowed()) {
    lock_adopt(&collector_lock); /* the driver's, who is not in this process */
    concurrent_forked(self);
    atomic_store_relaxed(&loan.state, (uint32_t)KEPT);
  }
  atomic_store_relaxed(&loan.waiting, 0u);
}

static void wait_for_return(uintptr_t stack_pointer, void *argument) {
  struct mutator *self = argument;
  mutator_enter_safe(self, stack_pointer);
  wait_on_word_for(&loan.state, OFFERED, OFFER_NS);
  uint32_t offered = OFFERED;
  if (!atomic_cas_acq_rel(&loan.state, &offered, (uint32_t)KEPT)) {
    while (atomic_load_acquire(&loan.state) == TAKEN) wait_on_word(&loan.state, TAKEN);
  }
  mutator_leave_safe(self);
}

void loan_offer(struct mutator *self) {
  if (LIKELY(atomic_load_relaxed(&loan.waiting) == 0)) return;
  uint32_t owner = atomic_load_relaxed(&collector.owner);
  atomic_store_release(&loan.state, (uint32_t)OFFERED);
  wake_all(&loan.state);
  os_call_with_registers(wait_for_return, self);
  atomic_store_relaxed(&collector.owner, owner);
}
