/* A library for test_start_loading.c to open: while it is loaded, the loader's lock held, it calls the test. */
void start_loading_act(void);

__attribute__((constructor)) static void construct(void) { start_loading_act(); }
