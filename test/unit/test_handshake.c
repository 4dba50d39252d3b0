/* Handshakes, on forced schedules: each thread is answered for once a round, by whom and when its state says. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "mutator/barrier.h"
#include "mutator/handshake.h"
#include "mutator/world.h"
#include "support/heap_test.h"

enum state { SPINS, BLOCKS, CRITICAL, STORES, DETACHES, STATES };

/* What one thread is made to do, and what became of it. */
struct subject {
  pthread_t thread;
  enum state state;
  struct mutator *mutator; /* atomic; set when it is where it is to be */
  uint32_t answers;        /* atomic; times that the action was called for it */
  bool by_itself;          /* by its own thread */
  bool too_early;          /* inside its critical section or store */
};

static struct subject subjects[STATES];
static bool let_go;   /* atomic; leave the critical section, or the store */
static bool finished; /* atomic */

static struct subject *subject_of(const struct mutator *mutator) {
  for (int i = 0; i < STATES; i++) {
    if (atomic_load_acquire(&subjects[i].mutator) == mutator) return &subjects[i];
  }
  return NULL;
}

static void answer(struct mutator *mutator) {
  struct subject *subject = subject_of(mutator);
  if (subject == NULL) return; /* a thread of the library's */
  bool waits = subject->state == CRITICAL || subject->state == STORES;
  subject->too_early = subject->too_early || (waits && !atomic_load_acquire(&let_go));
  subject->by_itself = mutator == mutator_self_if_attached();
  atomic_add_acq_rel(&subject->answers, 1u);
}

static void wait_for(const bool *flag) {
  while (!atomic_load_acquire(flag)) test_sleep_ms(1);
}

static void be_critical(struct mutator *self, struct subject *subject) {
  mutator_enter(self);
  atomic_store_release(&subject->mutator, self);
  wait_for(&let_go);
  mutator_leave(self);
}

/* As midden_store, cut in two: the flag is seen to be off, and the store is yet to be made. */
static void store(struct mutator *self, struct subject *subject) {
  midden_barrier_begin();
  atomic_store_release(&subject->mutator, self);
  wait_for(&let_go);
  midden_barrier_end();
}

static void *run(void *argument) {
  struct subject *subject = argument;
  midden_thread_attach();
  struct mutator *self = mutator_self();
  if (subject->state == CRITICAL) be_critical(self, subject);
  if (subject->state == STORES) store(self, subject);
  if (subject->state == BLOCKS) midden_blocking_enter();
  atomic_store_release(&subject->mutator, self);
  if (subject->state == DETACHES) {
    midden_thread_detach();
    return NULL;
  }
  while (!atomic_load_acquire(&finished)) {
    if (WORLD_BY_POLL) handshake_poll(self);
    atomic_pause();
  }
  if (subject->state == BLOCKS) midden_blocking_leave();
  return NULL;
}

static void start_all(void) {
  atomic_store_release(&let_go, false);
  atomic_store_release(&finished, false);
  for (int i = 0; i < STATES; i++) {
    subjects[i] = (struct subject){.state = (enum state)i};
    REQUIRE(pthread_create(&subjects[i].thread, NULL, run, &subjects[i]) == 0, "no thread");
    while (atomic_load_acquire(&subjects[i].mutator) == NULL) test_sleep_ms(1);
  }
  pthread_join(subjects[DETACHES].thread, NULL);
}

static void end_all(void) {
  atomic_store_release(&finished, true);
  for (int i = 0; i < STATES; i++) {
    if (i != DETACHES) pthread_join(subjects[i].thread, NULL);
  }
}

static void *let_go_later(void *unused) {
  test_sleep_ms(20);
  atomic_store_release(&let_go, true);
  return unused;
}

static void run_round(void) {
  struct mutator *self = mutator_self();
  collector_acquire(self);
  handshake_run(self, answer, NULL);
  collector_release();
}

static void each_answers_once_and_when_it_may(void **state) {
  (void)state;
  pthread_t later;
  start_all();
  REQUIRE(pthread_create(&later, NULL, let_go_later, NULL) == 0, "no thread");
  run_round();
  pthread_join(later, NULL);
  for (int i = 0; i < STATES; i++) {
    assert_int_equal(subjects[i].answers, i != DETACHES);
    assert_false(subjects[i].too_early);
  }
  assert_true(subjects[SPINS].by_itself);
  assert_true(subjects[CRITICAL].by_itself);
  assert_true(subjects[STORES].by_itself);
  assert_false(subjects[BLOCKS].by_itself);
  end_all();
}

/* A thread for which there is nothing to do is left alone, whether it runs or not; but one in the middle of something is waited for. */

static bool cannot_order; /* the system cannot have all threads pass a barrier */
static bool looked_early; /* at one inside its critical section or store */
static uint32_t spared;   /* atomic; looks that said so */
int __real_os_order_threads(void);
int __wrap_os_order_threads(void);

int __wrap_os_order_threads(void) { return cannot_order ? -ENOSYS : __real_os_order_threads(); }

static bool is_needless(const struct mutator *mutator) {
  const struct subject *subject = subject_of(mutator);
  bool waits = subject != NULL && (subject->state == CRITICAL || subject->state == STORES);
  looked_early = looked_early || (waits && !atomic_load_acquire(&let_go));
  atomic_add_relaxed(&spared, (uint32_t)(subject == &subjects[SPINS]));
  return true;
}

static void run_needless_round(void) {
  pthread_t later;
  looked_early = false;
  atomic_store_release(&spared, 0u);
  start_all();
  REQUIRE(pthread_create(&later, NULL, let_go_later, NULL) == 0, "no thread");
  struct mutator *self = mutator_self();
  collector_acquire(self);
  handshake_run(self, answer, is_needless);
  collector_release();
  assert_true(atomic_load_acquire(&let_go));
  pthread_join(later, NULL);
  for (int i = 0; i < STATES; i++) assert_false(subjects[i].too_early);
  assert_false(looked_early);
  end_all();
}

static void where_there_is_nothing_to_do_a_thread_is_left_alone(void **state) {
  (void)state;
  if (WORLD_BY_POLL || os_order_threads() != 0) skip();
  run_needless_round();
  assert_int_equal(spared, 1);
  assert_int_equal(subjects[SPINS].answers, 0);
  assert_int_equal(subjects[BLOCKS].answers, 0);
}

static void without_barriers_for_all_each_is_asked(void **state) {
  (void)state;
  cannot_order = true;
  run_needless_round();
  cannot_order = false;
  assert_int_equal(spared, 0);
  assert_int_equal(subjects[SPINS].answers, 1);
  assert_int_equal(subjects[BLOCKS].answers, 1);
}

static bool is_needed(const struct mutator *mutator) { return !is_needless(mutator); }

static void where_there_is_something_to_do_it_is_asked(void **state) {
  (void)state;
  start_all();
  atomic_store_release(&let_go, true);
  struct mutator *self = mutator_self();
  collector_acquire(self);
  handshake_run(self, answer, is_needed);
  collector_release();
  for (int i = 0; i < STATES; i++) assert_int_equal(subjects[i].answers, i != DETACHES);
  end_all();
}

static void rounds_follow_each_other(void **state) {
  enum { ROUNDS = 50 };
  (void)state;
  start_all();
  atomic_store_release(&let_go, true);
  for (int i = 0; i < ROUNDS; i++) run_round();
  for (int i = 0; i < STATES; i++) assert_int_equal(subjects[i].answers, i != DETACHES ? ROUNDS : 0);
  end_all();
}

static void ignore_all(int signal) { (void)signal; }

/* The default action would end the process, the others leave the round without an answer. */
static void the_handler_is_installed_again(void **state) {
  (void)state;
  if (WORLD_BY_POLL) skip();
  void (*const actions[])(int) = {SIG_DFL, SIG_IGN, ignore_all};
  start_all();
  atomic_store_release(&let_go, true);
  for (size_t i = 0; i < TEST_COUNT_OF(actions); i++) {
    signal(midden_suspend_signal(), actions[i]);
    run_round();
  }
  assert_int_equal(subjects[SPINS].answers, TEST_COUNT_OF(actions));
  end_all();
}

/* A thread that blocks and leaves all the time is held, or answers; never both, and it never leaves while it is held. */
static bool held; /* atomic; the action runs for the one below */
static uint32_t flips;

static void answer_slowly(struct mutator *mutator) {
  if (mutator != atomic_load_acquire(&subjects[BLOCKS].mutator)) return;
  bool by_itself = mutator == mutator_self_if_attached();
  if (!by_itself) atomic_store_seq_cst(&held, true);
  for (int i = 0; i < 1000; i++) atomic_pause();
  if (!by_itself) atomic_store_seq_cst(&held, false);
  atomic_add_acq_rel(&subjects[BLOCKS].answers, 1u);
}

static void *flip(void *unused) {
  midden_thread_attach();
  atomic_store_release(&subjects[BLOCKS].mutator, mutator_self());
  while (!atomic_load_acquire(&finished)) {
    midden_blocking_enter();
    midden_blocking_leave();
    REQUIRE(!atomic_load_seq_cst(&held), "the thread runs while it is held");
    if (WORLD_BY_POLL) handshake_poll(mutator_self());
    atomic_add_relaxed(&flips, 1u);
  }
  return unused;
}

static void a_held_thread_does_not_leave(void **state) {
  enum { ROUNDS = 500 };
  (void)state;
  pthread_t thread;
  atomic_store_release(&finished, false);
  for (int i = 0; i < STATES; i++) subjects[i] = (struct subject){.state = (enum state)i};
  REQUIRE(pthread_create(&thread, NULL, flip, NULL) == 0, "no thread");
  while (atomic_load_acquire(&subjects[BLOCKS].mutator) == NULL) test_sleep_ms(1);
  for (int i = 0; i < ROUNDS; i++) {
    struct mutator *self = mutator_self();
    collector_acquire(self);
    handshake_run(self, answer_slowly, NULL);
    collector_release();
  }
  atomic_store_release(&finished, true);
  pthread_join(thread, NULL);
  assert_int_equal(subjects[BLOCKS].answers, ROUNDS);
  assert_true(flips != 0);
}

/* A thread that is to leave while it is held sleeps until it is let go. */

static void let_go_and_linger(struct mutator *mutator) {
  if (mutator != atomic_load_acquire(&subjects[BLOCKS].mutator)) return;
  atomic_store_release(&finished, true);
  test_sleep_ms(20); /* it sleeps by then, as a rule */
  atomic_add_acq_rel(&subjects[BLOCKS].answers, 1u);
}

static bool has_left; /* atomic */

static void *block_until_finished(void *unused) {
  midden_thread_attach();
  midden_blocking_enter();
  atomic_store_release(&subjects[BLOCKS].mutator, mutator_self());
  wait_for(&finished);
  midden_blocking_leave();
  atomic_store_release(&has_left, true);
  return unused;
}

static void one_that_was_held_goes_on(void **state) {
  enum { PATIENT_MS = 10000 };
  (void)state;
  pthread_t thread;
  atomic_store_release(&finished, false);
  for (int i = 0; i < STATES; i++) subjects[i] = (struct subject){.state = (enum state)i};
  REQUIRE(pthread_create(&thread, NULL, block_until_finished, NULL) == 0, "no thread");
  while (atomic_load_acquire(&subjects[BLOCKS].mutator) == NULL) test_sleep_ms(1);
  struct mutator *self = mutator_self();
  collector_acquire(self);
  handshake_run(self, let_go_and_linger, NULL);
  collector_release();
  assert_int_equal(subjects[BLOCKS].answers, 1);
  for (int ms = 0; ms < PATIENT_MS && !atomic_load_acquire(&has_left); ms++) test_sleep_ms(1);
  REQUIRE(atomic_load_acquire(&has_left), "it was not woken");
  pthread_join(thread, NULL);
}

/* What came in a critical section, or in a store, is answered at its end, without another signal. */

static uint32_t inside; /* atomic; 1: a critical section, 2: a store that is to be told of */
static uint32_t answered[2];

static void await_signal(const struct mutator *self, uint32_t where) {
  atomic_store_release(&inside, where);
  while (!atomic_load_relaxed(&self->stop_pending)) test_sleep_ms(1);
}

static void *answer_at_ends(void *unused) {
  midden_thread_attach();
  struct mutator *self = mutator_self();
  const uint32_t *answers = &subjects[SPINS].answers;
  atomic_store_release(&subjects[SPINS].mutator, self);
  mutator_enter(self);
  await_signal(self, 1);
  mutator_leave(self);
  answered[0] = atomic_load_acquire(answers);
  midden_barrier_begin();
  await_signal(self, 2);
  midden_barrier_record(NULL, NULL, NULL);
  answered[1] = atomic_load_acquire(answers);
  return unused;
}

static void what_came_inside_is_answered_at_the_end(void **state) {
  (void)state;
  pthread_t thread;
  atomic_store_release(&inside, 0u);
  for (int i = 0; i < STATES; i++) subjects[i] = (struct subject){.state = (enum state)i};
  REQUIRE(pthread_create(&thread, NULL, answer_at_ends, NULL) == 0, "no thread");
  for (uint32_t i = 1; i <= TEST_COUNT_OF(answered); i++) {
    while (atomic_load_acquire(&inside) != i) test_sleep_ms(1);
    run_round();
  }
  pthread_join(thread, NULL);
  for (uint32_t i = 0; i < TEST_COUNT_OF(answered); i++) assert_int_equal(answered[i], i + 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_answers_once_and_when_it_may),
                                     cmocka_unit_test(rounds_follow_each_other),
                                     cmocka_unit_test(the_handler_is_installed_again),
                                     cmocka_unit_test(a_held_thread_does_not_leave),
                                     cmocka_unit_test(where_there_is_nothing_to_do_a_thread_is_left_alone),
                                     cmocka_unit_test(without_barriers_for_all_each_is_asked),
                                     cmocka_unit_test(where_there_is_something_to_do_it_is_asked),
                                     cmocka_unit_test(one_that_was_held_goes_on),
                                     cmocka_unit_test(what_came_inside_is_answered_at_the_end)};
  midden_thread_attach();
  return test_run_group(tests);
}
