/* lock: mutual exclusion under contention, waiters that sleep and are woken, and the ranks that debug builds check. */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/lock.h"
#include "base/wait.h"

/* ---- exclusion ---- */

enum { THREADS = 4, ROUNDS = 20000 };

struct contest {
  struct lock lock;
  uint64_t plain_count; /* under lock; not atomic, so that two holders would lose counts */
  uint32_t inside;      /* threads that hold the lock */
  uint32_t overlaps;    /* times that there were two */
};

/* Some holders give the processor away, so that others find the lock held and go to sleep. */
static void *count_under_lock(void *opaque) {
  struct contest *contest = opaque;
  for (int i = 0; i < ROUNDS; i++) {
    if (i % 16 != 0 || !lock_try(&contest->lock)) lock_acquire(&contest->lock);
    if (atomic_add_relaxed(&contest->inside, 1u) != 0) atomic_add_relaxed(&contest->overlaps, 1u);
    uint64_t count = contest->plain_count;
    if (i % 256 == 0) wait_yield();
    contest->plain_count = count + 1;
    atomic_sub_relaxed(&contest->inside, 1u);
    lock_release(&contest->lock);
  }
  return NULL;
}

static void test_mutual_exclusion(void **state) {
  (void)state;
  struct contest contest = {.lock = LOCK_INIT(LOCK_RANK_LEAF)};
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, count_under_lock, &contest), 0);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  assert_int_equal(contest.plain_count, THREADS * ROUNDS);
  assert_int_equal(contest.overlaps, 0);
  assert_int_equal(contest.lock.word, 0);
}

static void test_try(void **state) {
  (void)state;
  struct lock lock;
  lock_init(&lock, LOCK_RANK_META);
  assert_int_equal(lock.rank, LOCK_RANK_META);
  assert_true(lock_try(&lock));
  assert_int_equal(lock.word, 1);
  assert_false(lock_try(&lock));
  lock_release(&lock);
  assert_true(lock_try(&lock));
  lock_release(&lock);
  assert_int_equal(lock.word, 0);
}

static void *hold_once(void *opaque) {
  struct contest *contest = opaque;
  lock_acquire(&contest->lock);
  contest->plain_count++;
  lock_release(&contest->lock);
  return NULL;
}

/* The waiters are known to sleep, or to be about to, once the word says "held with waiters". */
static void test_sleeping_waiters_are_woken(void **state) {
  (void)state;
  struct contest contest = {.lock = LOCK_INIT(LOCK_RANK_LEAF)};
  pthread_t threads[THREADS];
  lock_acquire(&contest.lock);
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, hold_once, &contest), 0);
  }
  while (atomic_load_relaxed(&contest.lock.word) != 2) usleep(1000);
  assert_int_equal(contest.plain_count, 0);
  lock_release(&contest.lock);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  assert_int_equal(contest.plain_count, THREADS);
}

/* Whoever works in steps passes the lock to one that sleeps, which is slower to wake up than the holder is to come back.  On a busy
 * machine it may take long for it to run: of some attempts one succeeds at once. */
static void test_pass(void **state) {
  (void)state;
  enum { ATTEMPTS = 50, PASSES_MOST = 3 };
  unsigned least = UINT_MAX;
  for (int i = 0; i < ATTEMPTS && least > PASSES_MOST; i++) {
    struct contest contest = {.lock = LOCK_INIT(LOCK_RANK_LEAF)};
    lock_acquire(&contest.lock);
    pthread_t waiter;
    assert_int_equal(pthread_create(&waiter, NULL, hold_once, &contest), 0);
    while (atomic_load_relaxed(&contest.lock.word) != 2) usleep(1000);
    usleep(1000); /* it sleeps */
    unsigned passes = 0;
    while (contest.plain_count == 0) {
      lock_pass(&contest.lock);
      passes++;
    }
    lock_release(&contest.lock);
    pthread_join(waiter, NULL);
    least = passes < least ? passes : least;
  }
  assert_in_range(least, 1, PASSES_MOST);
}

/* ---- ranks ---- */

#ifdef MIDDEN_ASSERTS

static struct lock outer = LOCK_INIT(LOCK_RANK_SPECIALS);
static struct lock inner = LOCK_INIT(LOCK_RANK_PAGEHEAP);
static struct lock inner_too = LOCK_INIT(LOCK_RANK_PAGEHEAP);
static struct lock innermost = LOCK_INIT(LOCK_RANK_LEAF);

static void take_in_order(void) {
  lock_acquire(&outer);
  lock_acquire(&inner);
  lock_release(&outer); /* the order of the releases is free */
  lock_acquire(&innermost);
  lock_release(&inner);
  lock_release(&innermost);
  lock_acquire(&outer);
  lock_release(&outer);
}

static void take_out_of_order(void) {
  lock_acquire(&inner);
  lock_acquire(&outer);
}

static void try_out_of_order(void) {
  lock_acquire(&inner);
  lock_try(&outer);
}

static void take_two_of_a_rank(void) {
  lock_acquire(&inner);
  lock_acquire(&inner_too);
}

static void release_what_is_not_held(void) { lock_release(&inner); }

/* Runs `body` in a child; returns the signal that ended it, or 0, with what it wrote to standard error. */
static int run_in_child(void (*body)(void), char *message, size_t capacity) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    dup2(ends[1], STDERR_FILENO);
    body();
    _exit(0);
  }
  close(ends[1]);
  memset(message, 0, capacity);
  ssize_t length = read(ends[0], message, capacity - 1);
  assert_true(length >= 0);
  close(ends[0]);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_rank_order(void **state) {
  (void)state;
  const struct {
    void (*body)(void);
    int rank;            /* of the lock that the message must name first, */
    const char *message; /* and what follows; NULL where the body must pass */
  } cases[] = {
      {take_in_order, 0, NULL},
      {take_out_of_order, LOCK_RANK_SPECIALS, "taken while one of"},
      {try_out_of_order, LOCK_RANK_SPECIALS, "taken while one of"},
      {take_two_of_a_rank, LOCK_RANK_PAGEHEAP, "taken while one of"},
      {release_what_is_not_held, LOCK_RANK_PAGEHEAP, "that this thread does not hold"},
  };
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    char message[512];
    int signal_number = run_in_child(cases[i].body, message, sizeof message);
    assert_int_equal(signal_number, cases[i].message == NULL ? 0 : SIGABRT);
    if (cases[i].message == NULL) continue;
    char expected[128];
    snprintf(expected, sizeof expected, "lock of rank %d %s", cases[i].rank, cases[i].message);
    assert_non_null(strstr(message, expected));
  }
}

static void *note_whether_held(void *opaque) {
  struct contest *contest = opaque;
  contest->overlaps = lock_is_held_by_me(&contest->lock);
  return NULL;
}

static void test_held_by_me(void **state) {
  (void)state;
  struct contest contest = {.lock = LOCK_INIT(LOCK_RANK_LEAF), .overlaps = 7};
  assert_false(lock_is_held_by_me(&contest.lock));
  lock_acquire(&contest.lock);
  assert_true(lock_is_held_by_me(&contest.lock));
  pthread_t other;
  assert_int_equal(pthread_create(&other, NULL, note_whether_held, &contest), 0);
  pthread_join(other, NULL);
  assert_int_equal(contest.overlaps, 0);
  lock_release(&contest.lock);
  assert_false(lock_is_held_by_me(&contest.lock));
}

#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_mutual_exclusion),
      cmocka_unit_test(test_try),
      cmocka_unit_test(test_sleeping_waiters_are_woken),
      cmocka_unit_test(test_pass),
#ifdef MIDDEN_ASSERTS
      cmocka_unit_test(test_rank_order),
      cmocka_unit_test(test_held_by_me),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
