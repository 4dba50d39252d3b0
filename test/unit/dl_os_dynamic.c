/* A library for test_os_modules.c to open: a static variable and a thread-local one, handed out by address.  Each thread
 * gets its block of thread-local storage when it first asks. */
void **dl_os_static_slot(void);
void **dl_os_thread_slot(void);

static void *static_slot;

/* So large that the loader cannot place it in the spare room that every thread has from the start. */
static _Thread_local struct {
  void *slot;
  char padding[64 << 10];
} thread_block;

void **dl_os_static_slot(void) { return &static_slot; }

void **dl_os_thread_slot(void) { return &thread_block.slot; }
