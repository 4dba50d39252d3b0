/* Threads: made by the collector's pthread_create or registered by themselves; their stacks, arguments, results and
 * blocking calls; coroutine stacks. */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#define GC_NO_THREAD_REDIRECTS
#include "gc_check.h"

#include "gc/gc_mark.h"

enum { THREADS = 4, ROUNDS = 3000 };

/* ---- made by the collector ---- */

struct node {
  struct node *next;
  long value;
};

/* A list that only this thread's stack holds, while others collect. */
static void *churn(void *argument) {
  struct node *list = NULL;
  long sum = 0;
  for (long i = 0; i < ROUNDS; i++) {
    struct node *node = GC_malloc(sizeof(*node));
    node->value = i;
    node->next = list;
    list = node;
    GC_malloc_atomic((size_t)(i % 300));
    if (i % 1000 == (long)argument) GC_gcollect();
  }
  for (; list; list = list->next) sum += list->value;
  CHECK_EQUAL(sum, (long)ROUNDS * (ROUNDS - 1) / 2);
  return GC_strdup("result");
}

static void test_created(void) {
  pthread_t threads[THREADS];
  void *result;
  for (long i = 0; i < THREADS; i++) CHECK_EQUAL(GC_pthread_create(&threads[i], NULL, churn, (void *)i), 0);
  for (int i = 0; i < THREADS; i++) {
    CHECK_EQUAL(GC_pthread_join(threads[i], &result), 0);
    CHECK(strcmp(result, "result") == 0);
  }
}

/* The argument is held from the call until the thread has it. */
static void *read_argument(void *argument) {
  GC_gcollect();
  CHECK(strcmp(argument, "argument") == 0);
  return NULL;
}

static NOINLINE pthread_t create_with_argument(void) {
  pthread_t thread;
  CHECK_EQUAL(GC_pthread_create(&thread, NULL, read_argument, GC_strdup("argument")), 0);
  return thread;
}

static void test_argument(void) {
  for (int i = 0; i < 20; i++) {
    pthread_t thread = create_with_argument();
    check_clear_stack();
    GC_gcollect();
    CHECK_EQUAL(GC_pthread_join(thread, NULL), 0);
  }
}

/* Results are held from the thread's end until it is joined. */
static void *return_watched(void *argument) {
  void *object = GC_malloc(64);
  strcpy(object, "result");
  check_watch((int)(GC_word)argument, object);
  return object;
}

static void *exit_watched(void *argument) { GC_pthread_exit(return_watched(argument)); }

static void test_results(void) {
  enum { RESULTS = 16 };
  pthread_t threads[RESULTS];
  for (GC_word i = 0; i < RESULTS; i++)
    CHECK_EQUAL(GC_pthread_create(&threads[i], NULL, i % 2 ? return_watched : exit_watched, (void *)i), 0);
  for (int i = 0; i < 5; i++) {
    usleep(10000);
    check_collect();
  }
  for (int i = 0; i < RESULTS; i++) {
    void *result;
    CHECK_EQUAL(GC_pthread_join(threads[i], &result), 0);
    CHECK(result != NULL);
    if (i % 2 == 0) continue; /* the stock library does not hold what GC_pthread_exit is given */
    CHECK(check_links[i] == (void *)GC_HIDE_POINTER(result));
    CHECK(strcmp(result, "result") == 0);
  }
  check_count_dead();
}

/* A thread that was joined leaves its id to others, which are detached, before the call that joined it has returned: that waits
 * for collections. */
enum { MANY_THREADS = 600 };
static int creators; /* atomic; that are at work */

static void *return_argument(void *argument) { return argument; }

static void *create_and_join(void *argument) {
  for (int i = 0; i < MANY_THREADS; i++) {
    pthread_t thread;
    CHECK_EQUAL(GC_pthread_create(&thread, NULL, return_argument, NULL), 0);
    CHECK_EQUAL(GC_pthread_join(thread, NULL), 0);
  }
  __atomic_fetch_sub(&creators, 1, __ATOMIC_RELAXED);
  return argument;
}

static void *create_detached(void *attributes) {
  for (int i = 0; i < MANY_THREADS; i++) {
    pthread_t thread;
    CHECK_EQUAL(GC_pthread_create(&thread, attributes, return_argument, NULL), 0);
  }
  __atomic_fetch_sub(&creators, 1, __ATOMIC_RELAXED);
  return NULL;
}

static void test_ids_used_again(void) {
  pthread_attr_t attributes;
  pthread_t threads[THREADS];
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  creators = THREADS;
  for (int i = 0; i < THREADS; i++)
    CHECK_EQUAL(GC_pthread_create(&threads[i], NULL, i % 2 ? create_and_join : create_detached, &attributes), 0);
  while (__atomic_load_n(&creators, __ATOMIC_RELAXED) > 0) GC_gcollect();
  for (int i = 0; i < THREADS; i++) CHECK_EQUAL(GC_pthread_join(threads[i], NULL), 0);
}

static sem_t detached_done;

static void *run_detached(void *argument) {
  CHECK(strcmp(argument, "detached") == 0);
  sem_post(&detached_done);
  return GC_malloc(10);
}

static void test_detached(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  sem_init(&detached_done, 0, 0);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  for (int i = 0; i < 20; i++) {
    CHECK_EQUAL(GC_pthread_create(&thread, i % 2 ? NULL : &attributes, run_detached, GC_strdup("detached")), 0);
    if (i % 2) CHECK_EQUAL(GC_pthread_detach(thread), 0);
  }
  for (int i = 0; i < 20; i++)
    while (sem_wait(&detached_done) < 0) continue;
  GC_gcollect();
}

static void *wait_for_cancel(void *argument) {
  for (;;) pause();
  return argument;
}

static void test_cancelled(void) {
  pthread_t thread;
  void *result;
  CHECK_EQUAL(GC_pthread_create(&thread, NULL, wait_for_cancel, NULL), 0);
  CHECK_EQUAL(GC_pthread_cancel(thread), 0);
  CHECK_EQUAL(GC_pthread_join(thread, &result), 0);
  CHECK(result == PTHREAD_CANCELED);
  GC_gcollect();
}

/* A creator is not cancelled while it creates a thread. */
static int created, started; /* atomic */

static void *start_one(void *argument) {
  __atomic_fetch_add(&started, argument == &started, __ATOMIC_RELAXED);
  return NULL;
}

static void *create_when_cancelled(void *argument) {
  pthread_t thread;
  CHECK_EQUAL(pthread_cancel(pthread_self()), 0);
  CHECK_EQUAL(GC_pthread_create(&thread, NULL, start_one, &started), 0);
  created++;
  CHECK_EQUAL(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL), 0);
  CHECK_EQUAL(GC_pthread_join(thread, NULL), 0);
  return argument;
}

static void test_creator_cancelled(void) {
  enum { CREATORS = 50 };
  for (int i = 0; i < CREATORS; i++) {
    pthread_t thread;
    void *result;
    CHECK_EQUAL(GC_pthread_create(&thread, NULL, create_when_cancelled, &created), 0);
    CHECK_EQUAL(GC_pthread_join(thread, &result), 0);
    CHECK(result == &created);
  }
  CHECK_EQUAL(created, CREATORS);
  CHECK_EQUAL(started, CREATORS);
}

static void test_create_fails(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, (size_t)1 << 50);
  CHECK(GC_pthread_create(&thread, &attributes, churn, NULL) != 0);
}

/* Nor is a thread that allocates, whatever it has to say of it. */
static int allocated_when_cancelled;

static void *allocate_when_cancelled(void *argument) {
  volatile size_t huge = (size_t)1 << 50;
  CHECK_EQUAL(pthread_cancel(pthread_self()), 0);
  CHECK(GC_malloc(huge) == NULL); /* and warns */
  GC_gcollect();
  allocated_when_cancelled++;
  pthread_testcancel();
  return argument;
}

static void test_cancelled_while_allocating(void) {
#if defined(__SANITIZE_ADDRESS__)
  return; /* it takes the frames that such a thread has left for ones that are there */
#endif
  pthread_t thread;
  void *result;
  CHECK_EQUAL(GC_pthread_create(&thread, NULL, allocate_when_cancelled, NULL), 0);
  CHECK_EQUAL(GC_pthread_join(thread, &result), 0);
  CHECK(result == PTHREAD_CANCELED);
  CHECK_EQUAL(allocated_when_cancelled, 1);
}

/* Programs allocate between a call that failed and their look at why. */
static int is_over; /* atomic */

static void *allocate_until_over(void *argument) {
  while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) GC_malloc(64);
  return argument;
}

static void test_errno(void) {
  pthread_t thread;
  int changed = 0;
  CHECK_EQUAL(GC_pthread_create(&thread, NULL, allocate_until_over, NULL), 0);
  for (int i = 0; i < 30000; i++) {
    errno = EXDEV;
    GC_malloc((size_t)(i % 2000));
    if (i % 1000 == 0) GC_gcollect();
    changed += errno != EXDEV;
  }
  __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
  CHECK_EQUAL(GC_pthread_join(thread, NULL), 0);
  CHECK_EQUAL(changed, 0);
}

/* ---- registered by themselves ---- */

static void *use_heap(struct GC_stack_base *base, void *argument) {
  CHECK(!GC_thread_is_registered());
  CHECK_EQUAL(GC_register_my_thread(base), GC_SUCCESS);
  CHECK(GC_thread_is_registered());
  CHECK_EQUAL(GC_register_my_thread(base), GC_DUPLICATE);
  CHECK(strcmp(churn(argument), "result") == 0);
  CHECK_EQUAL(GC_unregister_my_thread(), GC_SUCCESS);
  CHECK(!GC_thread_is_registered());
  return base;
}

static void *run_unregistered(void *argument) {
  struct GC_stack_base base;
  CHECK_EQUAL(GC_get_stack_base(&base), GC_SUCCESS);
  CHECK((char *)base.mem_base > (char *)&base);
  for (int i = 0; i < 2; i++) CHECK(GC_call_with_stack_base(use_heap, argument) != NULL);
  return &detached_done;
}

static void test_registered(void) {
  pthread_t threads[THREADS];
  struct GC_stack_base base;
  void *result;
  GC_allow_register_threads();
  CHECK_EQUAL(GC_get_stack_base(&base), GC_SUCCESS);
  CHECK(GC_thread_is_registered());
  CHECK_EQUAL(GC_register_my_thread(&base), GC_DUPLICATE);
  for (long i = 0; i < THREADS; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, run_unregistered, (void *)i), 0);
  for (int i = 0; i < THREADS; i++) {
    CHECK_EQUAL(pthread_join(threads[i], &result), 0);
    CHECK(result == &detached_done);
  }
}

/* ---- blocking ---- */

static sem_t blocking_entered, blocking_go_on;

static void *use_heap_while_blocking(void *argument) {
  char *text = GC_strdup(argument);
  for (int i = 0; i < 1000; i++) GC_malloc(100);
  return text;
}

static void *block(void *argument) {
  sem_post(&blocking_entered);
  while (sem_wait(&blocking_go_on) < 0) continue;
  return GC_call_with_gc_active(use_heap_while_blocking, argument);
}

static void *run_blocking(void *argument) {
  void **held = GC_malloc(2 * sizeof(void *));
  *held = GC_strdup("held while blocking");
  void *result = GC_do_blocking(block, argument);
  CHECK(strcmp(*held, "held while blocking") == 0);
  CHECK(strcmp(result, argument) == 0);
  CHECK(strcmp(GC_call_with_gc_active(use_heap_while_blocking, argument), argument) == 0);
  return held;
}

/* Collections neither wait for blocking threads nor lose what their stacks hold. */
static void test_blocking(void) {
  pthread_t threads[THREADS];
  sem_init(&blocking_entered, 0, 0);
  sem_init(&blocking_go_on, 0, 0);
  for (int i = 0; i < THREADS; i++)
    CHECK_EQUAL(GC_pthread_create(&threads[i], NULL, run_blocking, (void *)(GC_word) "while blocking"), 0);
  for (int i = 0; i < THREADS; i++)
    while (sem_wait(&blocking_entered) < 0) continue;
  for (int i = 0; i < 20; i++) {
    for (int j = 0; j < 200; j++) memset(GC_malloc_atomic(20), 0xee, 20);
    GC_gcollect();
  }
  for (int i = 0; i < THREADS; i++) sem_post(&blocking_go_on);
  for (int i = 0; i < THREADS; i++) CHECK_EQUAL(GC_pthread_join(threads[i], NULL), 0);
}

/* ---- signals ---- */

static void test_signals(void) {
  sigset_t all, now;
  int stop = GC_get_suspend_signal();
  CHECK(stop > 0 && GC_get_thr_restart_signal() > 0);
  sigfillset(&all);
  CHECK_EQUAL(GC_pthread_sigmask(SIG_BLOCK, &all, NULL), 0);
  CHECK_EQUAL(GC_pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
  CHECK(!sigismember(&now, stop) && sigismember(&now, SIGUSR1));
  CHECK_EQUAL(GC_pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
  CHECK_EQUAL(GC_pthread_sigmask(SIG_UNBLOCK, &all, &now), 0);
  CHECK(!sigismember(&now, stop) && sigismember(&now, SIGUSR1));
}

/* ---- all threads ---- */

static long counter; /* atomic */
static int counting; /* atomic */

static void *count_up(void *argument) {
  (void)argument;
  GC_malloc(10);
  while (__atomic_load_n(&counting, __ATOMIC_RELAXED)) __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED);
  return NULL;
}

static void test_stop_world(void) {
  pthread_t thread;
  counting = 1;
  CHECK_EQUAL(GC_pthread_create(&thread, NULL, count_up, NULL), 0);
  while (__atomic_load_n(&counter, __ATOMIC_RELAXED) == 0) usleep(100);
  GC_stop_world_external();
  long before = __atomic_load_n(&counter, __ATOMIC_RELAXED);
  usleep(20000);
  CHECK_EQUAL(__atomic_load_n(&counter, __ATOMIC_RELAXED), before);
  GC_start_world_external();
  while (__atomic_load_n(&counter, __ATOMIC_RELAXED) == before) usleep(100);
  __atomic_store_n(&counting, 0, __ATOMIC_RELAXED);
  CHECK_EQUAL(GC_pthread_join(thread, NULL), 0);
}

static int in_lock, broken_lock;

static void *enter_lock(void *argument) {
  broken_lock += in_lock++ != 0;
  for (volatile int i = 0; i < 100; i++) continue;
  in_lock--;
  return argument;
}

static void *lock_often(void *argument) {
  for (int i = 0; i < 2000; i++) {
    CHECK(GC_call_with_alloc_lock(enter_lock, argument) == argument);
    if (i % 100 == 0) GC_malloc(100);
  }
  return NULL;
}

static void test_alloc_lock(void) {
  pthread_t threads[THREADS];
  for (GC_word i = 0; i < THREADS; i++)
    CHECK_EQUAL(GC_pthread_create(&threads[i], NULL, lock_often, (void *)(i + 1)), 0);
  for (int i = 0; i < 3; i++) GC_gcollect();
  for (int i = 0; i < THREADS; i++) CHECK_EQUAL(GC_pthread_join(threads[i], NULL), 0);
  CHECK_EQUAL(broken_lock, 0);
}

/* The functions and the call use one lock, so each waits for the other. */

static int is_held, is_tried, is_inside; /* atomic */

static void set(int *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }

static void await(int *flag) {
  while (!__atomic_load_n(flag, __ATOMIC_RELAXED)) usleep(100);
}

static void *set_inside(void *argument) {
  set(&is_inside);
  return argument;
}

static void *try_to_call(void *argument) {
  await(&is_held);
  set(&is_tried);
  return GC_call_with_alloc_lock(set_inside, argument);
}

static void *try_to_lock(void *argument) {
  await(&is_held);
  set(&is_tried);
  GC_alloc_lock();
  set_inside(NULL);
  GC_alloc_unlock();
  return argument;
}

/* Leaves the other thread the time to come in, were it let. */
static void *hold(void *argument) {
  set(&is_held);
  await(&is_tried);
  usleep(20000);
  CHECK(!__atomic_load_n(&is_inside, __ATOMIC_RELAXED));
  return argument;
}

static void hold_locked(void) {
  GC_alloc_lock();
  hold(NULL);
  GC_alloc_unlock();
}

static void hold_called(void) { GC_call_with_alloc_lock(hold, NULL); }

static void check_excluded(void *(*other)(void *), void (*holder)(void)) {
  pthread_t thread;
  is_held = is_tried = is_inside = 0;
  CHECK_EQUAL(GC_pthread_create(&thread, NULL, other, NULL), 0);
  holder();
  CHECK_EQUAL(GC_pthread_join(thread, NULL), 0);
  CHECK(is_inside);
}

static void test_one_alloc_lock(void) {
  check_excluded(try_to_lock, hold_locked);
  check_excluded(try_to_call, hold_locked);
  check_excluded(try_to_lock, hold_called);
  check_excluded(try_to_call, hold_called);
}

/* ---- a stack that the program reports ---- */

enum { FIBER_WORDS = 1000 };
static void **fiber_stack; /* malloc memory */
static GC_push_other_roots_proc push_before;
static int pushed;

static void push_fiber_stack(void) {
  pushed++;
  GC_push_all_eager(fiber_stack, fiber_stack + FIBER_WORDS);
  if (push_before) push_before();
}

static NOINLINE void fill_fiber_stack(void) {
  for (int i = 0; i < COUNT; i++) check_watch(i, fiber_stack[3 * i] = GC_malloc(40));
}

static void test_push_other_roots(void) {
  fiber_stack = calloc(FIBER_WORDS, sizeof(void *));
  push_before = GC_get_push_other_roots();
  CHECK(push_before != NULL);
  GC_set_push_other_roots(push_fiber_stack);
  CHECK(GC_get_push_other_roots() == push_fiber_stack);
  fill_fiber_stack();
  check_collect();
  CHECK(pushed >= 3);
  for (int i = 0; i < COUNT; i++) CHECK(GC_REVEAL_POINTER(check_links[i]) == fiber_stack[3 * i]);
  memset(fiber_stack, 0, FIBER_WORDS * sizeof(void *));
  check_collect();
  CHECK(check_count_dead() > NEARLY_ALL);
  GC_set_push_other_roots(push_before);
  free(fiber_stack);
}

/* The base of a stack is where the program says: what lies above it is not read. */
static NOINLINE void keep_above(void **frame) {
  for (int i = 0; i < COUNT; i++) check_watch(i, frame[i] = GC_malloc(40));
}

static NOINLINE int collect_below(struct GC_stack_base *base) {
  struct GC_stack_base below = {.mem_base = __builtin_frame_address(0)};
  GC_set_stackbottom(NULL, &below);
  check_collect();
  int dead = check_count_dead();
  GC_set_stackbottom(NULL, base);
  return dead;
}

static NOINLINE void test_stack_bottom(void) {
  void *frame[COUNT];
  struct GC_stack_base base, now;
  CHECK(GC_get_my_stackbottom(&base) != NULL);
  keep_above(frame);
  check_collect();
  for (int i = 0; i < COUNT; i++) CHECK(GC_REVEAL_POINTER(check_links[i]) == frame[i]);
  CHECK(collect_below(&base) > NEARLY_ALL);
  GC_get_my_stackbottom(&now);
  CHECK(now.mem_base == base.mem_base);
  __asm__ volatile("" : : "r"(frame) : "memory");
}

static void *run_stack_bottom(void *argument) {
  test_stack_bottom();
  return argument;
}

static void test_stack_bottom_in_thread(void) {
  pthread_t thread;
  check_clear_stack(); /* what the last test left on this thread's stack may be the addresses of new objects */
  CHECK_EQUAL(GC_pthread_create(&thread, NULL, run_stack_bottom, NULL), 0);
  CHECK_EQUAL(GC_pthread_join(thread, NULL), 0);
}

/* A program that writes the variable is heard at the next collection. */
static NOINLINE int collect_below_variable(void) {
  char *base = GC_stackbottom;
  GC_stackbottom = __builtin_frame_address(0);
  check_collect();
  int dead = check_count_dead();
  GC_stackbottom = base;
  GC_gcollect();
  return dead;
}

static NOINLINE void test_stack_bottom_variable(void) {
  void *frame[COUNT];
  CHECK(GC_stackbottom > (char *)frame);
  keep_above(frame);
  CHECK(collect_below_variable() > NEARLY_ALL);
  __asm__ volatile("" : : "r"(frame) : "memory");
}

/* ---- threads that are stopped ---- */

static struct {
  pthread_t running, blocking;
  int is_running, is_blocking, may_end;     /* atomic */
  int turns;                                /* of `running`; atomic */
  int suspended, unsuspended, out_of_order; /* of `running` */
  int of_others;                            /* of those that are not stopped */
  int stage;                                /* of the stop */
} told;

static void note_stop(GC_EventType event) {
  if (event == GC_EVENT_PRE_STOP_WORLD) told.stage = 1;
  if (event == GC_EVENT_POST_STOP_WORLD) told.stage = 2;
  if (event == GC_EVENT_PRE_START_WORLD) told.stage = 3;
  if (event == GC_EVENT_POST_START_WORLD) told.stage = 4;
}

/* It hears of a thread as it is stopped, or goes on. */
static void note_thread(GC_EventType event, void *thread) {
  CHECK(event == GC_EVENT_THREAD_SUSPENDED || event == GC_EVENT_THREAD_UNSUSPENDED);
  int *count = event == GC_EVENT_THREAD_SUSPENDED ? &told.suspended : &told.unsuspended;
  if (pthread_equal((pthread_t)thread, told.running)) {
    ++*count;
    told.out_of_order += told.stage != (event == GC_EVENT_THREAD_SUSPENDED ? 1 : 3);
  } else if (pthread_equal((pthread_t)thread, told.blocking) || pthread_equal((pthread_t)thread, pthread_self())) {
    told.of_others++;
  }
}

static void *run_until_end(void *unused) {
  __atomic_store_n(&told.is_running, 1, __ATOMIC_RELEASE);
  while (!__atomic_load_n(&told.may_end, __ATOMIC_ACQUIRE)) {
    usleep(1000); /* which may block, but says nothing of it */
    __atomic_add_fetch(&told.turns, 1, __ATOMIC_RELEASE);
  }
  return unused;
}

static void *wait_until_end(void *unused) {
  __atomic_store_n(&told.is_blocking, 1, __ATOMIC_RELEASE);
  while (!__atomic_load_n(&told.may_end, __ATOMIC_ACQUIRE)) usleep(1000);
  return unused;
}

static void *block_until_end(void *unused) { return GC_do_blocking(wait_until_end, unused); }

/* A thread that has not gone on from the last stop yet need not be stopped for the next one. */
static void collect_when_running(void) {
  int turns = __atomic_load_n(&told.turns, __ATOMIC_ACQUIRE);
  while (__atomic_load_n(&told.turns, __ATOMIC_ACQUIRE) == turns) usleep(1000);
  GC_gcollect();
}

static void test_thread_events(void) {
  CHECK_EQUAL(GC_pthread_create(&told.running, NULL, run_until_end, NULL), 0);
  CHECK_EQUAL(GC_pthread_create(&told.blocking, NULL, block_until_end, NULL), 0);
  while (!__atomic_load_n(&told.is_running, __ATOMIC_ACQUIRE) || !__atomic_load_n(&told.is_blocking, __ATOMIC_ACQUIRE))
    usleep(1000);
  GC_set_on_collection_event(note_stop);
  GC_set_on_thread_event(note_thread);
  CHECK(GC_get_on_thread_event() == note_thread);
  for (int i = 0; i < 3; i++) collect_when_running();
  GC_set_on_thread_event(NULL);
  int suspended = told.suspended;
  GC_gcollect();
  GC_set_on_collection_event(NULL);
  __atomic_store_n(&told.may_end, 1, __ATOMIC_RELEASE);
  CHECK_EQUAL(GC_pthread_join(told.running, NULL), 0);
  CHECK_EQUAL(GC_pthread_join(told.blocking, NULL), 0);
  CHECK(suspended >= 3);
  CHECK_EQUAL(told.suspended, suspended);
  CHECK_EQUAL(told.unsuspended, suspended);
  CHECK_EQUAL(told.out_of_order, 0);
  CHECK_EQUAL(told.of_others, 0);
}

int main(void) {
  GC_INIT();
  test_created();
  test_argument();
  test_results();
  test_ids_used_again();
  test_detached();
  test_cancelled();
  test_creator_cancelled();
  test_cancelled_while_allocating();
  test_errno();
  test_create_fails();
  test_registered();
  test_blocking();
  test_signals();
  test_stop_world();
  test_alloc_lock();
  test_one_alloc_lock();
  test_push_other_roots();
  test_stack_bottom();
  test_stack_bottom_in_thread();
  test_stack_bottom_variable();
  test_thread_events();
  return 0;
}
