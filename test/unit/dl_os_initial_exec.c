/* A library for test_os_modules.c to open: a thread-local variable at a fixed distance from the thread pointer, which
 * exists in every thread from the moment that the library is loaded, without any thread's asking. */
void **dl_os_thread_slot(void);

static _Thread_local void *thread_slot __attribute__((tls_model("initial-exec")));

void **dl_os_thread_slot(void) { return &thread_slot; }
