#include "api/fork.h"

#include "api/dispatcher.h"
#include "api/start.h"
#include "base/atomic.h"
#include "base/check.h"
#include "gc/collector.h"
#include "gc/loan.h"
#include "midden/midden.h"
#include "os/os.h"

/* Whether the forking thread had the collector lock before: inside midden_locked_call, which goes on in parent and child.  Under
 * the locks of a fork. */
static bool is_inside_call;

/* With the collector and threads locks held and no thread inside a critical section, nobody else holds any lock of the
 * heap: the child may use them all as they are.  No thread of the library's is being started (mutator_start_own). */
void midden_fork_prepare(void) {
  struct mutator *self = start_self();
  CHECK(!mutator_gate_is_mine(self), "midden_fork_prepare: it was called before");
  bool is_mine = collector_is_mine(self);
  if (!is_mine) loan_acquire(self);
  mutator_lock_safely(self, &mutator_start_lock);
  mutator_lock_safely(self, &mutator_list_lock);
  is_inside_call = is_mine;
  mutator_close_gate(self);
}

static void check_prepared(const struct mutator *self, const char *function) {
  CHECK(mutator_gate_is_mine(self), "%s: midden_fork_prepare was not called", function);
}

void midden_fork_parent(void) {
  check_prepared(start_self(), __func__);
  bool keeps_lock = is_inside_call;
  mutator_open_gate();
  lock_release(&mutator_list_lock);
  lock_release(&mutator_start_lock);
  if (!keeps_lock) loan_release();
}

void midden_fork_child(void) {
  struct mutator *self = start_self();
  check_prepared(self, __func__);
  mutator_open_gate();
  collector_forked();
  dispatcher_forked();
  mutator_forget_others(self);
  lock_release(&mutator_list_lock);
  lock_release(&mutator_start_lock);
  loan_keep_in_child(self);
  if (!is_inside_call) loan_release();
}

static bool manual; /* atomic */

void midden_fork_manual(bool by_hand) {
  start_ensure();
  atomic_store_release(&manual, by_hand);
}

static bool is_automatic(void) { return !atomic_load_acquire(&manual); }

/* The choice at prepare holds for the whole fork.  Where the library has not started there is nothing to prepare. */
static THREAD_LOCAL bool prepared;

static void prepare(void) {
  prepared = start_hold() && is_automatic();
  if (prepared) midden_fork_prepare();
}

static void parent(void) {
  if (prepared) midden_fork_parent();
  start_let_go();
}

static void child(void) {
  if (prepared) midden_fork_child();
  start_let_go();
}

int fork_init(void) {
  static bool is_known;
  int error = is_known ? 0 : os_at_fork(prepare, parent, child);
  is_known = error == 0;
  return error;
}

/* Before there are threads: a fork that had called its first handlers before the start makes these known would not wait for it.  And
 * handlers of the program, which come later, run before the heap is brought to rest, and after it is let go: they may use it. */
__attribute__((constructor(101))) static void know_early(void) { (void)fork_init(); }
