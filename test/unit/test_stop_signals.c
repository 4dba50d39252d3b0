/* Handlers of signals may move references about, but not in a thread that counts as stopped, nor in the one that marks: what
 * is moved from where marking has not been to where it has been would be lost.
 *
 * The schedule is forced: the linker puts a step of this file (--wrap, see cmake/tests.cmake) before the reading of the roots
 * in a stop, and behind it.  There the signal is sent, whose handler moves the one reference to an object.
 *
 * And the signal that stops threads does not stop the one that stops them; the others it stops even if the program has put
 * another handler in the place of the library's, or none, be it in the middle of the stop. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/start.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "gc/mark.h"
#include "mutator/mutator.h"
#include "support/heap_test.h"

enum { BEFORE_ROOTS = 1, BEHIND_ROOTS };
/* Added roots, as the words of objects are. */
static struct {
  void *word;
  void **holder; /* a word of an object */
  struct midden_weak *weak, *dropped;
} roots;

static pthread_t victim;
static unsigned armed;   /* atomic; where the signal is sent */
static bool was_handled; /* atomic */

static void move_reference(int signal) {
  (void)signal;
  void **from = roots.word != NULL ? &roots.word : roots.holder, **to = roots.word != NULL ? roots.holder : &roots.word;
  *to = *from;
  *from = NULL;
  atomic_store_release(&was_handled, true);
}

/* A signal to this thread is handled before the sending returns; another one is given the time. */
static void send_at(unsigned place) {
  if (atomic_load_acquire(&armed) != place) return;
  atomic_store_release(&armed, 0u);
  pthread_kill(victim, SIGUSR1);
  for (int i = 0; i < 50 && !atomic_load_acquire(&was_handled) && !pthread_equal(victim, pthread_self()); i++)
    test_sleep_ms(1);
}

/* The names are the linker's. */
void __real_rootset_mark_share(struct midden_tracer *tracer);
void __wrap_rootset_mark_share(struct midden_tracer *tracer);
int __real_os_start_thread(void (*run)(void *argument), void *argument, const char *name);
int __wrap_os_start_thread(void (*run)(void *argument), void *argument, const char *name);

void __wrap_rootset_mark_share(struct midden_tracer *tracer) {
  send_at(BEFORE_ROOTS);
  __real_rootset_mark_share(tracer);
  send_at(BEHIND_ROOTS);
}

NOINLINE_TEST static void make_object(void **place) {
  *place = midden_alloc(64);
  roots.weak = midden_weak_new(*place);
  roots.dropped = midden_weak_new(midden_alloc(64));
  REQUIRE(roots.weak != NULL && roots.dropped != NULL, "out of memory");
}

static void prepare(void **place) {
  roots.word = *roots.holder = NULL;
  if (place != NULL) make_object(place);
  test_scrub_stack();
  atomic_store_release(&was_handled, false);
  victim = pthread_self();
}

NOINLINE_TEST static void check_object(void) {
  for (int i = 0; i < 1000 && !atomic_load_acquire(&was_handled); i++) test_sleep_ms(1);
  assert_true(atomic_load_acquire(&was_handled));
  assert_null(midden_weak_get(roots.dropped));
  assert_non_null(midden_weak_get(roots.weak));
}

static void in_the_thread_that_collects(void **state) {
  (void)state;
  prepare(roots.holder);
  atomic_store_release(&armed, (unsigned)BEHIND_ROOTS);
  test_collect_clean();
  check_object();
}

/* ---- beside the program but for its end ---- */

NOINLINE_TEST static void hold_again(enum midden_event event, void *argument) {
  (void)argument;
  if (event == MIDDEN_EVENT_START) roots.word = midden_weak_get(roots.weak);
}

NOINLINE_TEST static void forget(void) { roots.word = NULL; }

static void in_the_thread_that_ends_a_cycle(void **state) {
  (void)state;
  void *volatile large = midden_alloc(4 << 20); /* so that cycles run beside the program */
  midden_collect();
  midden_set_event_callback(hold_again, NULL);
  prepare(NULL);
  make_object(&roots.word);
  forget();
  test_scrub_stack();
  atomic_store_release(&armed, (unsigned)BEFORE_ROOTS);
  test_collect_clean();
  midden_set_event_callback(NULL, NULL);
  assert_non_null(large);
  check_object();
}

/* ---- in a thread that waits ---- */

static bool may_go_on; /* atomic */

/* As soon as the victim is about to wait. */
static void *collect_beside(void *unused) {
  (void)unused;
  test_sleep_ms(50);
  midden_collect();
  atomic_store_release(&may_go_on, true);
  return NULL;
}

static pthread_t collect_later(void) {
  pthread_t thread;
  atomic_store_release(&may_go_on, false);
  atomic_store_release(&armed, (unsigned)BEHIND_ROOTS);
  REQUIRE(pthread_create(&thread, NULL, collect_beside, NULL) == 0, "pthread_create");
  return thread;
}

static void *wait_to_go_on(void *unused) {
  while (!atomic_load_acquire(&may_go_on)) test_sleep_ms(1);
  return unused;
}

static void join(pthread_t thread) {
  REQUIRE(pthread_join(thread, NULL) == 0, "pthread_join");
  check_object();
}

static void wait_in_finalizer(void *object, void *argument) {
  (void)object, (void)argument;
  midden_blocking_call(wait_to_go_on, NULL);
}

NOINLINE_TEST static void drop_finalizable(void) {
  midden_finalizer_set(midden_alloc(32), wait_in_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
}

static void in_one_that_stops_the_dispatcher(void **state) {
  (void)state;
  atomic_store_release(&may_go_on, false);
  REQUIRE(midden_dispatcher_start() == 0, "midden_dispatcher_start");
  drop_finalizable();
  test_collect_clean();
  while (midden_finalizers_ready()) test_sleep_ms(1);
  prepare(roots.holder);
  pthread_t thread = collect_later();
  REQUIRE(midden_dispatcher_stop() == 0, "midden_dispatcher_stop");
  join(thread);
}

static bool starts_slowly;

int __wrap_os_start_thread(void (*run)(void *argument), void *argument, const char *name) {
  if (starts_slowly) wait_to_go_on(NULL);
  return __real_os_start_thread(run, argument, name);
}

static void end_at_once(void *unused) { (void)unused; }

static void in_one_that_starts_a_thread_of_the_library(void **state) {
  (void)state;
  prepare(roots.holder);
  pthread_t thread = collect_later();
  starts_slowly = true;
  REQUIRE(mutator_start_own(end_at_once, NULL, "test") == 0, "mutator_start_own");
  starts_slowly = false;
  join(thread);
}

/* ---- the signal that stops threads ---- */

/* It may come from anywhere, and late: what watches the power supply sends it, or who stopped the world before. */
static void *stop_world(void *has_resumed) {
  midden_world_stop();
  raise(midden_suspend_signal());
  mutator_enter(mutator_self());
  raise(midden_suspend_signal());
  mutator_leave(mutator_self());
  midden_world_resume();
  atomic_store_release((bool *)has_resumed, true);
  return NULL;
}

static void who_stops_the_world_is_not_stopped(void **state) {
  (void)state;
  static bool has_resumed; /* atomic */
  pthread_t thread;
  midden_blocking_enter();
  REQUIRE(pthread_create(&thread, NULL, stop_world, &has_resumed) == 0, "pthread_create");
  for (int i = 0; i < 5000 && !atomic_load_acquire(&has_resumed); i++) test_sleep_ms(1);
  REQUIRE(atomic_load_acquire(&has_resumed), "it waits for itself");
  pthread_join(thread, NULL);
  midden_blocking_leave();
}

static bool is_spinning, may_end; /* atomic */

static void *spin(void *unused) {
  midden_thread_attach();
  atomic_store_release(&is_spinning, true);
  while (!atomic_load_acquire(&may_end)) atomic_pause();
  return unused;
}

static void ignore_all(int signal) { (void)signal; }

static bool takes_handler_away;                 /* atomic; as soon as it was looked for */
static unsigned lost_signals, counted_warnings; /* atomic */

int __real_os_signal_thread(uint32_t thread_id, int signal);
int __wrap_os_signal_thread(uint32_t thread_id, int signal);
void __wrap_warn(const char *format, ...);

int __wrap_os_signal_thread(uint32_t thread_id, int number) {
  if (number != 0 && atomic_exchange_acq_rel(&takes_handler_away, false)) {
    signal(number, SIG_IGN);
    atomic_add_relaxed(&lost_signals, 1u);
  }
  return __real_os_signal_thread(thread_id, number);
}

/* After two seconds. */
void __wrap_warn(const char *format, ...) {
  (void)format;
  atomic_add_relaxed(&counted_warnings, 1u);
}

enum { SPINNERS = 3 };
static size_t turns[SPINNERS]; /* atomic */

static void *take_turns(void *taken) {
  midden_thread_attach();
  while (!atomic_load_acquire(&may_end)) atomic_add_relaxed((size_t *)taken, (size_t)1);
  return NULL;
}

/* They have gone on from the last stop. */
static void await_turns(void) {
  for (size_t i = 0; i < SPINNERS; i++) {
    for (size_t before = atomic_load_relaxed(&turns[i]); atomic_load_relaxed(&turns[i]) < before + 2;) test_sleep_ms(1);
  }
}

static void a_lost_signal_is_repeated(void **state) {
  (void)state;
  pthread_t threads[SPINNERS];
  atomic_store_release(&may_end, false);
  for (size_t i = 0; i < SPINNERS; i++)
    REQUIRE(pthread_create(&threads[i], NULL, take_turns, &turns[i]) == 0, "pthread_create");
  for (unsigned i = 1; i <= 3; i++) {
    await_turns();
    atomic_store_release(&takes_handler_away, true);
    midden_world_stop();
    midden_world_resume();
    assert_int_equal(atomic_load_relaxed(&lost_signals), i);
  }
  assert_int_equal(atomic_load_relaxed(&counted_warnings), 0);
  atomic_store_release(&may_end, true);
  for (size_t i = 0; i < SPINNERS; i++) pthread_join(threads[i], NULL);
}

/* As the child of a fork does that becomes a daemon. */
static void the_handler_is_installed_again(void **state) {
  (void)state;
  void (*const actions[])(int) = {SIG_DFL, SIG_IGN, ignore_all};
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, spin, NULL) == 0, "pthread_create");
  while (!atomic_load_acquire(&is_spinning)) test_sleep_ms(1);
  for (size_t i = 0; i < TEST_COUNT_OF(actions); i++) {
    signal(midden_suspend_signal(), actions[i]);
    midden_world_stop();
    midden_world_resume();
  }
  atomic_store_release(&may_end, true);
  pthread_join(thread, NULL);
}

int main(void) {
  if (THREAD_SANITIZER) return TEST_SKIPPED; /* it hands signals on when it likes */
  struct midden_options options = {.size = sizeof(options),
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .brief_stop_us = -1,
                                   .markers = 1,
                                   .background = -1,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  REQUIRE(midden_root_add(&roots, &roots + 1) == 0, "midden_root_add");
  roots.holder = midden_alloc(sizeof *roots.holder);
  struct sigaction action = {.sa_handler = move_reference, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);
  alarm(60);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(in_the_thread_that_collects),
      cmocka_unit_test(in_one_that_stops_the_dispatcher),
      cmocka_unit_test(in_one_that_starts_a_thread_of_the_library),
      cmocka_unit_test(in_the_thread_that_ends_a_cycle),
      cmocka_unit_test(who_stops_the_world_is_not_stopped),
      cmocka_unit_test(the_handler_is_installed_again),
      cmocka_unit_test(a_lost_signal_is_repeated),
  };
  return test_run_group(tests);
}
