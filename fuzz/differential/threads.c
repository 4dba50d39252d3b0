/* Threads: those that the library makes, those that register, blocking calls, calls with the lock, forks. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "differential.h"

#include "gc/gc_mark.h"

enum { THREADS = 3, LENGTH = 500 };

struct cell {
  struct cell *next;
  GC_word number;
};

/* ---- a thread's work ---- */

static NOINLINE struct cell *make_list(void) {
  struct cell *list = NULL;
  for (GC_word i = 0; i < LENGTH; i++) {
    struct cell *cell = GC_malloc(sizeof *cell);
    REQUIRE(cell != NULL && cell->next == NULL && cell->number == 0);
    cell->next = list;
    cell->number = i;
    list = cell;
  }
  return list;
}

static NOINLINE bool is_whole(const struct cell *list) {
  GC_word expected = LENGTH;
  for (; list != NULL; list = list->next)
    if (list->number != --expected) return false;
  return expected == 0;
}

static NOINLINE void churn(void) {
  for (int i = 0; i < 3000; i++) {
    void *object = GC_malloc(1 + (size_t)i % 200);
    REQUIRE(object != NULL);
    if (i % 7 == 0) GC_free(object);
  }
}

/* Answers of a thread, which the main one prints. */
struct answers {
  int registered[3];
  int results[4];
  bool is_whole;
  bool exits;
  bool blocks_signals;
};

/* ---- threads of the library ---- */

static void *work(void *argument) {
  struct answers *answers = argument;
  answers->registered[0] = GC_thread_is_registered() != 0;
  struct GC_stack_base base;
  sigset_t all;
  sigfillset(&all);
  if (answers->blocks_signals) REQUIRE(GC_pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
  answers->results[0] = GC_get_stack_base(&base);
  answers->results[1] = GC_register_my_thread(&base);
  struct cell *list = make_list();
  churn();
  GC_gcollect();
  answers->is_whole = is_whole(list);
  if (answers->exits) GC_pthread_exit(list);
  return list;
}

/* What a thread returns lives until it is joined.  So it should with what it gives to GC_pthread_exit, which the stock library
 * does not keep. */
static void spawn(void) {
  pthread_t threads[THREADS];
  struct answers *answers = GC_malloc_uncollectable(THREADS * sizeof *answers);
  for (int i = 0; i < THREADS; i++) {
    answers[i].exits = any_chance(30);
    answers[i].blocks_signals = any_chance(30);
    REQUIRE(GC_pthread_create(&threads[i], NULL, work, &answers[i]) == 0);
  }
  for (int i = 0; i < 3; i++) collect();
  churn();
  for (int i = 0; i < THREADS; i++) {
    void *list = NULL;
    int result = GC_pthread_join(threads[i], &list);
    say("thread: joined %d, registered %d, base %d, again %d, whole %d %d", result, answers[i].registered[0],
        answers[i].results[0], answers[i].results[1], answers[i].is_whole, answers[i].exits || is_whole(list));
  }
  GC_free(answers);
}

/* ---- threads that register themselves ---- */

static void *register_and_work(struct GC_stack_base *base, void *argument) {
  struct answers *answers = argument;
  answers->registered[0] = GC_thread_is_registered() != 0;
  answers->results[0] = GC_register_my_thread(base);
  answers->results[1] = GC_register_my_thread(base);
  answers->registered[1] = GC_thread_is_registered() != 0;
  struct cell *list = make_list();
  churn();
  GC_gcollect();
  answers->is_whole = is_whole(list);
  GC_reachable_here(list);
  answers->results[2] = GC_unregister_my_thread();
  answers->registered[2] = GC_thread_is_registered() != 0;
  return argument;
}

static void *plain_thread(void *argument) { return GC_call_with_stack_base(register_and_work, argument); }

static void register_one(void) {
  struct answers answers = {0};
  pthread_t thread;
  void *result;
  REQUIRE(pthread_create(&thread, NULL, plain_thread, &answers) == 0);
  collect();
  REQUIRE(pthread_join(thread, &result) == 0);
  say("registering: %d %d %d, %d %d %d, whole %d, %d", answers.results[0], answers.results[1], answers.results[2],
      answers.registered[0], answers.registered[1], answers.registered[2], answers.is_whole, result == &answers);
}

/* ---- blocking ---- */

struct blocking {
  struct cell *list;
  int depth;
  int collections;
};

static void *run_active(void *argument);

static void *run_blocked(void *argument) {
  struct blocking *blocking = argument;
  if (blocking->depth-- > 0) REQUIRE(GC_call_with_gc_active(run_active, argument) == argument);
  return argument;
}

static void *run_active(void *argument) {
  struct blocking *blocking = argument;
  struct cell *list = make_list();
  GC_gcollect();
  blocking->collections++;
  REQUIRE(is_whole(blocking->list));
  if (blocking->depth > 0) REQUIRE(GC_do_blocking(run_blocked, argument) == argument);
  REQUIRE(is_whole(list));
  return argument;
}

static void block(void) {
  struct blocking blocking = {.list = make_list(), .depth = (int)any_below(4)};
  say("blocking to depth %d", blocking.depth);
  REQUIRE(GC_do_blocking(run_blocked, &blocking) == &blocking);
  REQUIRE(is_whole(blocking.list));
  say("blocked: collected %d times", blocking.collections);
}

static void *run_locked(void *argument) {
  int *count = argument;
  ++*count;
  return argument;
}

static void lock(void) {
  int count = 0;
  void *result = GC_call_with_alloc_lock(run_locked, &count);
  GC_alloc_lock();
  count++;
  GC_alloc_unlock();
  GC_stop_world_external();
  count++;
  GC_start_world_external();
  say("locked: %d %d", count, result == &count);
}

/* ---- stacks ---- */

static void *look_at_stack(struct GC_stack_base *base, void *argument) {
  char here;
  return (char *)base->mem_base > &here ? argument : NULL;
}

static void *put_back_base(void *argument) {
  GC_set_stackbottom(NULL, argument);
  return argument;
}

static void stacks(void) {
  struct GC_stack_base base = {NULL}, own = {NULL};
  char here;
  int result = GC_get_stack_base(&base);
  void *handle = GC_get_my_stackbottom(&own);
  say("stack: %d %d %d %d, registered %d, again %d", result, (char *)base.mem_base > &here, handle != NULL,
      (char *)own.mem_base > &here, GC_thread_is_registered() != 0, GC_register_my_thread(&base));
  say("stack base: %d", GC_call_with_stack_base(look_at_stack, &here) == &here);
  REQUIRE(GC_call_with_alloc_lock(put_back_base, &own) == &own);
  REQUIRE(GC_get_my_stackbottom(&base) == handle && base.mem_base == own.mem_base);
  REQUIRE(GC_clear_stack(&here) == &here && GC_clear_stack(NULL) == NULL);
}

/* ---- forks ---- */

static void forks(void) {
  struct cell *list = make_list();
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    objects_check();
    churn();
    GC_gcollect();
    objects_check();
    _exit(is_whole(list) ? 42 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  say("child: %d %d", WIFEXITED(status), WIFEXITED(status) ? WEXITSTATUS(status) : 0);
  REQUIRE(is_whole(list));
}

void threads_step(void) {
  static void (*const kinds[])(void) = {spawn, register_one, block, lock, stacks, forks};
  kinds[any_below(sizeof kinds / sizeof kinds[0])]();
}
