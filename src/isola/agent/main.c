/* The loop: the host's stream, the programs, and the children that end.
 *
 * Without arguments it is /init of a machine. `isola-agent --service` serves the host in a system that runs, as one of its
 * services. With `--fd N` it serves the stream of that descriptor until it ends, in namespaces that the caller has made. */
#include "agent.h"
#include "boot.h"
#include "first.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT "org.isola.agent"
#define HUNG_MS 50
#define FLUSH_MS 2000

bool is_init, is_machine;
int proc_fd = -1;
static int channel = -1;
static bool hung;
static bool is_given; /* the channel is that of the caller, whose end is ours */

static void set_up_signals(int *children) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    *children = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void woken(int number) {
    (void)number;
}

static void hang_up(void) {
    if (is_given)
        exit(0);
    if (connected())
        disconnected();
    hung = true;
}

static void send_outgoing(void) {
    ssize_t written = write(channel, outgoing.data, outgoing.size);
    if (written > 0)
        drop_front(&outgoing, (size_t)written);
    else if (written < 0 && errno != EAGAIN && errno != EINTR)
        hang_up();
}

void flush_outgoing(void) {
    uint64_t until = now_ms() + FLUSH_MS;
    while (outgoing.size && now_ms() < until) {
        struct pollfd wait = {channel, POLLOUT, 0};
        if (poll(&wait, 1, 100) > 0 && (wait.revents & POLLOUT))
            send_outgoing();
    }
}

static void receive(void) {
    static uint8_t block[MAX_DATA];
    ssize_t got = read(channel, block, sizeof(block));
    if (got > 0) {
        hung = false;
        frame_input(block, (size_t)got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        hang_up();
    }
}

static bool reap(int children) {
    struct signalfd_siginfo info;
    bool reaped = false;
    int status;
    pid_t pid;
    while (read(children, &info, sizeof(info)) == sizeof(info))
        if (info.ssi_signo == SIGTERM && !is_machine)
            exit(0);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        reaped = true;
        if (!reap_first(pid, status))
            reap_job(pid, status);
    }
    return reaped;
}

static int shorter(int a, int b) {
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

static void serve(int children) {
    static struct pollfd polls[MAX_POLL];
    bool again = false;
    for (;;) {
        short wanted = POLLIN | (outgoing.size ? POLLOUT : 0);
        polls[0] = (struct pollfd){hung ? -1 : channel, wanted, 0};
        polls[1] = (struct pollfd){children, POLLIN, 0};
        size_t first = poll_first(polls + 2), programs = poll_jobs(polls + 2 + first);
        int timeout = again ? 0 : shorter(first_timeout(), hung ? HUNG_MS : -1);
        if (poll(polls, 2 + first + programs, timeout) < 0 && errno != EINTR)
            abort();
        serve_jobs(polls + 2 + first, programs);
        serve_first(polls + 2, first);
        if (polls[0].revents & POLLOUT)
            send_outgoing();
        if (hung || polls[0].revents & (POLLIN | POLLHUP | POLLERR))
            receive();
        again = reap(children);
    }
}

static void wait_for_port(void) {
    while ((channel = open_device(PORT, O_RDWR | O_NONBLOCK)) < 0)
        poll(NULL, 0, 5);
}

static void open_standard_descriptors(void) {
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd < 3)
        ;
    if (fd >= 3)
        close(fd);
}

static int usage(void) {
    fprintf(stderr, "usage: isola-agent [--service] [--fd N] [--scratch DIRECTORY]\n");
    return 2;
}

static bool read_arguments(int argc, char **argv, bool *service) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--service") == 0)
            *service = true;
        else if (strcmp(argv[i], "--fd") == 0 && i + 1 < argc)
            channel = atoi(argv[++i]);
        else if (strcmp(argv[i], "--scratch") == 0 && i + 1 < argc)
            scratch = argv[++i];
        else
            return false;
    }
    is_given = channel >= 3;
    return *service || is_given;
}

int main(int argc, char **argv) {
    int children;
    bool service = false;
    is_init = getpid() == 1;
    is_machine = is_init && argc < 3;
    if (!is_machine && !read_arguments(argc, argv, &service))
        return usage();
    if (is_machine)
        boot();
    open_standard_descriptors();
    open_places();
    set_up_signals(&children);
    struct sigaction wake = {.sa_handler = woken}; /* interrupts a write that blocks */
    sigaction(SIGALRM, &wake, NULL);
    if (service)
        join_system();
    else
        argv[0][0] = '@'; /* systemd leaves such processes alone when it shuts down */
    if (!is_given)
        wait_for_port();
    set_blocking(channel, false);
    fcntl(channel, F_SETFD, FD_CLOEXEC);
    serve(children);
}
