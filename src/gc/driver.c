#include "gc/driver.h"

#include "base/atomic.h"
#include "base/wait.h"
#include "gc/background.h"
#include "gc/handover.h"
#include "mutator/world.h"
#include "os/os.h"

enum { NONE, STARTING, STARTED };

static struct {
  uint32_t state;    /* atomic; see driver.h */
  uint32_t requests; /* atomic; what the driver sleeps on */
  uint32_t served;   /* atomic; what those sleep on who wait for a cycle */
  uint32_t waiting;  /* atomic; how many do */
  uint32_t reason;   /* atomic; of the last request that is waited for */
} driver CACHE_ALIGNED;

/* ---- in the thread ---- */

static void serve(struct mutator *self, uint32_t requests) {
  uint32_t reason = atomic_exchange_acq_rel(&driver.reason, (uint32_t)COLLECT_HEAP);
  mutator_leave_safe(self);
  collector_run_concurrently(self, (enum collector_reason)reason);
  mutator_enter_safe(self, self->stack_base); /* between cycles it holds nothing */
  atomic_store_release(&driver.served, requests);
  wake_all(&driver.served);
}

static void run(void *argument) {
  (void)argument;
  if (mutator_attach_own() != 0) {
    atomic_store_release(&driver.state, (uint32_t)NONE);
    return;
  }
  struct mutator *self = mutator_self();
  int signal = 0;
  mutator_enter_safe(self, self->stack_base);
  atomic_store_release(&driver.state, (uint32_t)STARTED);
  background_wake(); /* from now on it may be poked where it could not be started */
  for (;;) {
    world_unblock_signal(&signal);
    uint32_t requests = atomic_load_acquire(&driver.requests);
    if (requests == atomic_load_relaxed(&driver.served)) {
      wait_on_word(&driver.requests, requests);
    } else {
      serve(self, requests);
    }
  }
}

/* ---- for others ---- */

static void start_while_safe(uintptr_t stack_pointer, void *argument) {
  struct mutator *self = argument;
  mutator_enter_safe(self, stack_pointer);
  if (os_start_thread(run, NULL, "midden-gc") != 0) atomic_store_release(&driver.state, (uint32_t)NONE);
  mutator_leave_safe(self);
}

/* Making a thread takes locks of the C library: see background.c. */
static bool is_there(struct mutator *self) {
  uint32_t none = NONE;
  if (LIKELY(atomic_load_acquire(&driver.state) != NONE)) return true;
  if (atomic_cas_acq_rel(&driver.state, &none, (uint32_t)STARTING)) os_call_with_registers(start_while_safe, self);
  return atomic_load_acquire(&driver.state) != NONE;
}

static uint32_t post(enum collector_reason reason) {
  if (reason != COLLECT_HEAP) atomic_store_relaxed(&driver.reason, (uint32_t)reason);
  uint32_t number = atomic_add_acq_rel(&driver.requests, 1u) + 1;
  wake_one(&driver.requests);
  return number;
}

/* A driver that could not attach leaves again. */
static bool is_served(uint32_t number) {
  return (int32_t)(atomic_load_acquire(&driver.served) - number) >= 0 || atomic_load_acquire(&driver.state) == NONE;
}

struct wait {
  struct mutator *self;
  enum collector_reason reason;
  bool is_posted;
  uint32_t number;
};

/* A thread of the library's own may wait too (idle.c), but is never who is wanted. */
static bool is_wanted(const struct mutator *self) { return handover_is_offered() && !self->is_own; }

/* Until the cycle is over, or the thread wanted for its end. */
static void wait_while_safe(uintptr_t stack_pointer, void *argument) {
  enum { LOOK_AGAIN_NS = 100000000 };
  struct wait *wait = argument;
  struct os_signals before;
  os_block_signals(&before); /* as in mutator_lock_safely */
  mutator_enter_safe(wait->self, stack_pointer);
  if (!wait->is_posted) wait->number = post(wait->reason);
  wait->is_posted = true;
  while (!is_served(wait->number) && !is_wanted(wait->self)) {
    uint32_t served = atomic_load_acquire(&driver.served);
    if (!is_served(wait->number) && !is_wanted(wait->self)) wait_on_word_for(&driver.served, served, LOOK_AGAIN_NS);
  }
  mutator_leave_safe(wait->self);
  os_restore_signals(&before);
}

bool driver_request(struct mutator *self, enum collector_reason reason) {
  if (!is_there(self)) return false;
  if (reason == COLLECT_HEAP) {
    /* One that is asked for and not yet served is enough. */
    if (atomic_load_acquire(&driver.requests) == atomic_load_acquire(&driver.served)) post(reason);
    return true;
  }
  struct wait wait = {.self = self, .reason = reason};
  atomic_add_relaxed(&driver.waiting, 1u);
  do {
    os_call_with_registers(wait_while_safe, &wait);
    handover_take(self);
  } while (!is_served(wait.number));
  atomic_sub_relaxed(&driver.waiting, 1u);
  return true;
}

bool driver_is_urgent(void) { return atomic_load_relaxed(&driver.waiting) != 0; }

void driver_wake_waiting(void) {
  if (atomic_load_acquire(&driver.waiting) != 0) wake_all(&driver.served);
}

void driver_forget(void) {
  atomic_store_relaxed(&driver.state, (uint32_t)NONE);
  atomic_store_relaxed(&driver.waiting, 0u);
  atomic_store_relaxed(&driver.served, atomic_load_relaxed(&driver.requests));
}
