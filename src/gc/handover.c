#include "gc/handover.h"

#include "base/wait.h"
#include "gc/collector.h"
#include "gc/cycle.h"
#include "gc/driver.h"
#include "gc/slowing.h"
#include "os/os.h"

enum { LOCK_POLL_NS = 200000 };

uint32_t handover_state;
bool handover_is_for_batches, handover_is_untold, handover_is_orphaned;

/* Written by the driver before it offers. */
static struct {
  handover_fn *step;
  void *argument;
} offer;

/* ---- the driver ---- */

bool handover_offer(struct mutator *self, handover_fn *step, void *argument, uint64_t wait_ns) {
  offer.step = step;
  offer.argument = argument;
  /* Before anybody stops the world: its stack is not scanned, which holds no object, but words that marking has left. */
  mutator_enter_safe(self, self->stack_base);
  atomic_store_release(&handover_state, (uint32_t)HANDOVER_OFFERED);
  slowing_stop(); /* who rests takes it */
  wake_all(&handover_state);
  driver_wake_waiting();
  wait_on_word_for(&handover_state, HANDOVER_OFFERED, wait_ns);
  uint32_t offered = HANDOVER_OFFERED;
  bool taken = !atomic_cas_acq_rel(&handover_state, &offered, (uint32_t)HANDOVER_NONE);
  while (atomic_load_acquire(&handover_state) == HANDOVER_TAKEN) wait_on_word(&handover_state, HANDOVER_TAKEN);
  mutator_leave_safe(self);
  return taken;
}

/* ---- threads of the program ---- */

static void give_back(uint32_t driver) {
  atomic_store_relaxed(&collector.owner, driver);
  atomic_store_release(&handover_state, (uint32_t)HANDOVER_NONE);
  wake_all(&handover_state);
}

static void end_orphaned(void) {
  handover_is_orphaned = false;
  lock_adopt(&collector_lock); /* the driver's, who is not in this process */
  collector_release();
}

bool handover_take_at(struct mutator *self, uintptr_t stack_pointer) {
  uint32_t offered = HANDOVER_OFFERED;
  if (!handover_is_offered() || self->critical != 0) return false;
  if (!atomic_cas_acq_rel(&handover_state, &offered, (uint32_t)HANDOVER_TAKEN)) return false;
  int cancellation = os_forbid_cancellation(); /* it calls the program */
  uint32_t driver = atomic_exchange_acq_rel(&collector.owner, self->thread_id);
  offer.step(self, stack_pointer, offer.argument);
  if (LIKELY(!handover_is_orphaned)) {
    give_back(driver);
  } else {
    end_orphaned();
  }
  os_restore_cancellation(cancellation);
  return true;
}

void handover_take_untold_at(struct mutator *self, uintptr_t stack_pointer) {
  if (handover_take_at(self, stack_pointer)) atomic_store_relaxed(&handover_is_untold, true);
}

void handover_tell(struct mutator *self) {
  if (self->critical != 0 || collector_is_mine(self)) return;
  if (atomic_exchange_acq_rel(&handover_is_untold, false)) collector_notify_finalizers();
}

static void take(uintptr_t stack_pointer, void *self) {
  if (handover_take_at(self, stack_pointer)) collector_notify_finalizers();
}

void handover_take(struct mutator *self) { os_call_with_registers(take, self); }

/* Until the lock may be free, or somebody is wanted. */
static void pause_while_safe(struct mutator *self, uintptr_t stack_pointer) {
  uint32_t state = atomic_load_acquire(&handover_state);
  if (state != HANDOVER_OFFERED) mutator_wait_on_word(self, stack_pointer, &handover_state, state, LOCK_POLL_NS);
}

static void lock_with_registers(uintptr_t stack_pointer, void *self) {
  while (!lock_try(&collector_lock)) {
    handover_take_untold_at(self, stack_pointer);
    if (!handover_is_offered()) pause_while_safe(self, stack_pointer);
  }
}

void handover_lock(struct mutator *self) {
  if (lock_try(&collector_lock)) return;
  if (atomic_load_relaxed(&self->state) == MUTATOR_SAFE) { /* it forks while blocking */
    lock_acquire(&collector_lock);
  } else {
    os_call_with_registers(lock_with_registers, self);
  }
}

/* Nobody forks while another thread has the step: it counts as the owner of the collector lock, which a fork holds. */
void handover_forget(void) {
  handover_is_orphaned = atomic_load_relaxed(&handover_state) == HANDOVER_TAKEN;
  atomic_store_relaxed(&handover_state, (uint32_t)HANDOVER_NONE);
  atomic_store_relaxed(&handover_is_for_batches, false);
}
