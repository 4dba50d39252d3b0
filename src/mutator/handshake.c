#include "mutator/handshake.h"

#include <errno.h>

#include "base/check.h"
#include "base/wait.h"
#include "mutator/barrier.h"
#include "mutator/world.h"

enum {
  SPINS = 200,
  LOOKS = 16, /* for the end of a store, before its thread is signalled */
  LOOK_SPINS = 20,
  RECHECK_NS = 500000,       /* a thread may end, or refuse */
  SIGNAL_AGAIN_NS = 1000000, /* nothing lost by a second signal */
  PATIENCE_NS = 2000000000
};

uint32_t handshake_round;

static struct {
  handshake_fn *action;        /* atomic; of the round; written before its number */
  handshake_test_fn *needless; /* of the round; NULL: all threads are asked.  The collector's */
  uint32_t answers;            /* atomic; counts up; what the collector sleeps on */
} shake CACHE_ALIGNED;

void handshake_init(void) { os_order_threads(); }

/* ---- the thread's side ---- */

static void tell_collector(void) {
  atomic_add_acq_rel(&shake.answers, 1u);
  wake_one(&shake.answers);
}

void handshake_refuse(void) { tell_collector(); }

static void act(struct mutator *mutator) { atomic_load_relaxed (&shake.action)(mutator); }

void handshake_answer(struct mutator *self, uintptr_t stack_pointer) {
  mutator_enter(self);
  /* Entering may have waited at the gate, or answered.  The round may end meanwhile, if the thread attached so late that nobody
   * waits for it: then this is no answer to the next one. */
  uint32_t round = atomic_load_seq_cst(&handshake_round);
  if (handshake_lacks(self, round)) {
    uintptr_t before = self->stack_pointer;
    struct os_range alternate_before = self->alternate_stack;
    mutator_note_stack(self, stack_pointer);
    act(self);
    self->stack_pointer = before;
    self->alternate_stack = alternate_before;
    atomic_store_release(&self->handshake, round);
  }
  mutator_leave(self);
  tell_collector();
}

static void answer_here(uintptr_t stack_pointer, void *argument) { handshake_answer(argument, stack_pointer); }

void handshake_poll_slow(struct mutator *self) {
  if (self->critical != 0 || self->inside_store != 0 || atomic_load_relaxed(&self->state) != MUTATOR_RUNNING) return;
  os_call_with_registers(answer_here, self);
}

/* ---- the collector's side ---- */

static bool has_answered(const struct mutator *mutator, uint32_t round) {
  return atomic_load_acquire(&mutator->handshake) == round;
}

/* SAFE -> HELD -> SAFE.  False if the thread runs. */
static bool act_for(struct mutator *mutator, uint32_t round) {
  uint32_t seen = MUTATOR_SAFE;
  if (!atomic_cas_seq_cst(&mutator->state, &seen, (uint32_t)MUTATOR_HELD)) return false;
  if (!has_answered(mutator, round)) {
    act(mutator);
    atomic_store_release(&mutator->handshake, round);
  }
  atomic_store_seq_cst(&mutator->state, (uint32_t)MUTATOR_SAFE);
  wake_all(&mutator->state);
  return true;
}

static bool is_outside(const struct mutator *mutator) {
  return atomic_load_acquire(&mutator->inside_store) == 0 && atomic_load_acquire(&mutator->critical) == 0;
}

/* How a look at a thread ends. */
enum look { NOTHING_TO_DO, TO_BE_ASKED, IN_A_STORE };

static enum look look_at(const struct mutator *mutator) {
  if (shake.needless == NULL) return TO_BE_ASKED;
  if (!is_outside(mutator)) return IN_A_STORE;
  return shake.needless(mutator) ? NOTHING_TO_DO : TO_BE_ASKED;
}

static void signal_once(struct mutator *mutator, uint32_t round, bool again) {
  if (mutator->signalled_round == round && !again) return;
  mutator->signalled_round = round;
  int error = world_interrupt(mutator);
  if (error == -ESRCH) world_forget_ended(mutator); /* SAFE from now on: acted for at the next look */
}

/* What a look at all has left. */
struct missing {
  uint32_t thread; /* the kernel's name of one that has not answered yet, or 0 */
  bool is_asked;   /* one was signalled: it tells when it has answered */
};

/* `patient`: who is in a store is not signalled. */
static struct missing look_at_all(struct mutator *self, uint32_t round, bool patient, bool again) {
  struct missing missing = {0};
  lock_acquire(&mutator_list_lock);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct mutator *mutator = mutator_from(link);
    if (mutator == self || has_answered(mutator, round)) continue;
    enum look look = look_at(mutator);
    if (look == NOTHING_TO_DO) atomic_store_release(&mutator->handshake, round);
    if (look == NOTHING_TO_DO || act_for(mutator, round)) continue;
    missing.thread = mutator->thread_id;
    if (look == IN_A_STORE && patient) continue;
    signal_once(mutator, round, again);
    missing.is_asked = true;
  }
  lock_release(&mutator_list_lock);
  return missing;
}

static void await_answer(uint32_t seen) {
  for (unsigned spins = 0; spins < SPINS; spins++) {
    if (atomic_load_acquire(&shake.answers) != seen) return;
    atomic_pause();
  }
  wait_on_word_for(&shake.answers, seen, RECHECK_NS);
}

static void await_stores(void) {
  for (unsigned spins = 0; spins < LOOK_SPINS; spins++) atomic_pause();
}

/* Looks again and again until all have answered. */
static void await_all(struct mutator *self, uint32_t round) {
  uint64_t signalled_ns = os_now_ns(), patient_ns = signalled_ns;
  bool again = false;
  world_keep_signal();
  for (unsigned looks = 1;; looks++) {
    uint32_t seen = atomic_load_acquire(&shake.answers);
    struct missing missing = look_at_all(self, round, looks < LOOKS, again);
    if (missing.thread == 0) return;
    if (missing.is_asked) {
      await_answer(seen);
    } else {
      await_stores();
    }
    uint64_t now_ns = os_now_ns();
    again = now_ns - signalled_ns >= SIGNAL_AGAIN_NS;
    if (again) {
      world_keep_signal();
      signalled_ns = now_ns;
    }
    if (now_ns - patient_ns < PATIENCE_NS) continue;
    warn("thread %u has not answered for 2 s; does it block signal %d?", missing.thread, world_signal());
    patient_ns = now_ns;
  }
}

void handshake_run(struct mutator *self, handshake_fn *action, handshake_test_fn *needless) {
  ASSERT(self->critical == 0 && (handshake_round & 1) == 0);
  atomic_store_relaxed(&self->stop_pending, false); /* what it was asked for is over */
  atomic_store_relaxed(&shake.action, action);
  uint32_t round = handshake_round + 1;
  atomic_store_seq_cst(&handshake_round, round);
  shake.needless = needless != NULL && os_order_threads() == 0 ? needless : NULL;
  await_all(self, round);
  atomic_store_seq_cst(&handshake_round, round + 1);
}
