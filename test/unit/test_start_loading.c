/* The library starts in one thread while another one is in the midst of dlopen, and waits for that: an object's constructor uses the
 * library, or forks.  The loader's lock is held meanwhile, so the start must not need it.
 *
 * Linked with --wrap=os_init: the start, which holds its own lock, waits there for the constructor. */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>

#include "os/os.h"
#include "support/heap_test.h"

enum { SECONDS = 30, LINGER_MS = 50 };

static sem_t starting, constructing;
static void (*act)(void);

void __real_os_init(void);
void __wrap_os_init(void);
__attribute__((visibility("default"))) void start_loading_act(void);

void __wrap_os_init(void) {
  sem_post(&starting);
  while (sem_wait(&constructing) != 0) continue;
  test_sleep_ms(LINGER_MS); /* the constructor waits for the start by then */
  __real_os_init();
}

void start_loading_act(void) {
  sem_post(&constructing);
  act();
}

static void *start(void *unused) {
  REQUIRE(midden_init(NULL) == 0, "midden_init");
  return unused;
}

static void allocate(void) { REQUIRE(midden_alloc(64) != NULL, "out of memory"); }

static void fork_and_allocate(void) {
  pid_t child = fork();
  REQUIRE(child >= 0, "fork: %s", strerror(errno));
  if (child == 0) {
    allocate();
    if (TEST_CHILD_MAY_COLLECT) midden_collect();
    _exit(0);
  }
  int status;
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid: %s", strerror(errno));
  REQUIRE(status == 0, "the child: status 0x%x", (unsigned)status);
}

static int load(void *wanted) {
  pthread_t thread;
  act = *(void (**)(void))wanted;
  sem_init(&starting, 0, 0);
  sem_init(&constructing, 0, 0);
  REQUIRE(pthread_create(&thread, NULL, start, NULL) == 0, "pthread_create");
  while (sem_wait(&starting) != 0) continue;
  REQUIRE(dlopen(DL_START_CONSTRUCTOR_PATH, RTLD_NOW) != NULL, "%s", dlerror());
  pthread_join(thread, NULL);
  midden_collect();
  return 0;
}

int main(void) {
  test_start("unit/start_loading");
  static void (*acts[])(void) = {allocate, fork_and_allocate};
  static const char *const names[] = {"a constructor that allocates", "a constructor that forks"};
  for (size_t i = 0; i < TEST_COUNT_OF(acts); i++) test_child_succeeds(names[i], load, &acts[i], SECONDS);
  return 0;
}
