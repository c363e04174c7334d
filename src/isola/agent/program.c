/* The program of an application image, and the relays between its pipes and the devices that keep its output. */
#include "agent.h"
#include "boot.h"
#include "first.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RELAYS 3
#define RETRY_MS 50

/* A device is relayed, because a virtio-serial port can be opened only once, but programs reopen /dev/stdout. */
struct relay {
    int from, to;
    uint8_t data[MAX_DATA];
    size_t size;
    bool lasts; /* an end without its other side comes back */
};

static struct relay relays[RELAYS] = {{.from = -1, .to = -1}, {.from = -1, .to = -1}, {.from = -1, .to = -1}};
int console_master = -1;
static int console_slave = -1; /* kept open for an init, which opens and closes its console */
static int refusal_fd = -1;
static char refusal[256];
static uint64_t retry_at;

/* udev, which makes the names below /dev/virtio-ports, is not there. */
static int open_port(const char *wanted, int flags) {
    int ports = openat(sys_fd, "class/virtio-ports", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = -1;
    DIR *listing = ports >= 0 ? fdopendir(ports) : NULL;
    struct dirent *entry;
    while (found < 0 && listing && (entry = readdir(listing))) {
        char path[320], name[128];
        snprintf(path, sizeof(path), "class/virtio-ports/%.200s/name", entry->d_name);
        int fd = entry->d_name[0] == '.' ? -1 : openat(sys_fd, path, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd >= 0 ? read(fd, name, sizeof(name) - 1) : -1;
        close_fd(&fd);
        if (size <= 0)
            continue;
        name[size] = 0;
        name[strcspn(name, "\n")] = 0;
        if (strcmp(name, wanted) == 0)
            found = openat(dev_fd, entry->d_name, flags | O_CLOEXEC);
    }
    if (listing)
        closedir(listing);
    return found;
}

int open_device(const char *name, int flags) {
    if (!is_machine && strncmp(name, "fd:", 3) == 0) /* what a test has instead of a port */
        return fcntl(atoi(name + 3), F_DUPFD_CLOEXEC, 3);
    if (strncmp(name, "/dev/", 5) == 0 && dev_fd >= 0)
        return openat(dev_fd, name + 5, flags | O_CLOEXEC);
    return name[0] == '/' ? open(name, flags | O_CLOEXEC) : open_port(name, flags);
}

static int open_relay(struct relay *relay, const char *device, bool input, int *program) {
    int pair[2];
    if (!*device) {
        *program = open_device("/dev/null", O_RDWR);
        return *program < 0 ? errno : 0;
    }
    int ours = open_device(device, (input ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY);
    if (ours < 0)
        return errno;
    if (pipe2(pair, O_CLOEXEC) < 0) {
        close(ours);
        return errno;
    }
    *program = pair[input ? 0 : 1];
    relay->from = input ? ours : pair[0];
    relay->to = input ? pair[1] : ours;
    set_blocking(relay->from, false);
    set_blocking(relay->to, false);
    return 0;
}

int relay_console(const char *name, int master) {
    int in = open_device(name, O_RDWR | O_NONBLOCK | O_NOCTTY);
    if (in < 0)
        return errno;
    relays[0] = (struct relay){.from = in, .to = fcntl(master, F_DUPFD_CLOEXEC, 3), .lasts = true};
    relays[1] = (struct relay){.from = fcntl(master, F_DUPFD_CLOEXEC, 3), .to = fcntl(in, F_DUPFD_CLOEXEC, 3)};
    set_blocking(master, false);
    if (system_image)
        console_slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return 0;
}

static int open_terminal_of(struct plan *plan, int *terminal) {
    if (!*plan->console || plan->console[0] == '/') {
        *terminal = open_device(*plan->console ? plan->console : "/dev/null", O_RDWR | O_NOCTTY);
        return *terminal < 0 ? errno : 0;
    }
    int error = open_pair_of_terminal(&console_master, terminal);
    return error ? error : relay_console(plan->console, console_master);
}

static int open_standard(struct plan *plan, int *standard) {
    if (plan->command.terminal) {
        int failed = open_terminal_of(plan, &standard[0]);
        if (!failed) /* before the program: the host may have set another size by the time it runs */
            set_window(standard[0], plan->command.columns, plan->command.rows);
        return failed;
    }
    int error = open_relay(&relays[0], plan->input, true, &standard[0]);
    if (!error)
        error = open_relay(&relays[1], plan->console, false, &standard[1]);
    if (!error)
        error = open_relay(&relays[2], plan->error, false, &standard[2]);
    return error;
}

static _Noreturn void run_program(struct plan *plan, const int *standard, int told) {
    const char *stage = "session";
    char text[256];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    if (plan->command.terminal) {
        ioctl(standard[0], TIOCSCTTY, 1);
    }
    for (int i = 0; i < 3; i++)
        if (dup2(plan->command.terminal ? standard[0] : standard[i], i) < 0)
            _exit(125);
    if (plan->command.uid && plan->command.terminal && fchown(0, plan->command.uid, (gid_t)-1) < 0)
        stage = "terminal";
    int error = execute(&plan->command, &stage);
    int status = error == ENOENT && stage[0] == 'p' ? 127 : 126;
    int size = snprintf(text, sizeof(text), "%s: %s", stage, strerror(error));
    if (plan->command.terminal || *plan->error) /* also where everyone looks for it */
        dprintf(2, "%s: %s\r\n", plan->command.argv[0], strerror(error));
    if (write(told, text, (size_t)size) < 0)
        status = 125;
    _exit(status);
}

int start_program(struct plan *plan, pid_t *pid) {
    int standard[3] = {-1, -1, -1}, told[2] = {-1, -1};
    int error = open_standard(plan, standard);
    if (!error && pipe2(told, O_CLOEXEC | O_NONBLOCK) < 0)
        error = errno;
    *pid = error ? -1 : fork();
    if (*pid == 0)
        run_program(plan, standard, told[1]);
    if (!error && *pid < 0)
        error = errno;
    for (int i = 0; i < 3; i++)
        close_fd(&standard[i]);
    close_fd(&told[1]);
    refusal_fd = told[0];
    return error;
}

int program_status(int status) {
    ssize_t size = read(refusal_fd, refusal, sizeof(refusal) - 1);
    refusal[size > 0 ? size : 0] = 0;
    close_fd(&refusal_fd);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

const char *program_refusal(void) {
    return refusal;
}

/* --- relays ----------------------------------------------------------------------------------------------------- */

static void close_relay(struct relay *relay) {
    close_fd(&relay->from);
    close_fd(&relay->to);
    relay->size = 0;
}

static void relay_in(struct relay *relay) {
    ssize_t got = read(relay->from, relay->data, sizeof(relay->data));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 && relay->lasts)
        retry_at = now_ms() + RETRY_MS;
    else if (got <= 0)
        close_relay(relay);
    else
        relay->size = (size_t)got;
}

static void relay_out(struct relay *relay) {
    ssize_t written = write(relay->to, relay->data, relay->size);
    if (written < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (written < 0) {
        close_relay(relay);
        return;
    }
    relay->size -= (size_t)written;
    memmove(relay->data, relay->data + written, relay->size);
}

/* A port without its other end hangs up all the time: it is looked at again after a while. */
size_t poll_relays(struct pollfd *polls) {
    bool skip = now_ms() < retry_at;
    for (size_t i = 0; i < RELAYS; i++) {
        bool out = relays[i].size > 0;
        polls[i] = (struct pollfd){skip ? -1 : out ? relays[i].to : relays[i].from, out ? POLLOUT : POLLIN, 0};
    }
    return RELAYS;
}

void serve_relays(const struct pollfd *polls, size_t count) {
    for (size_t i = 0; i < RELAYS && i < count; i++) {
        struct relay *relay = &relays[i];
        if (!polls[i].revents || relay->from < 0)
            continue;
        size_t before = relay->size;
        if (before)
            relay_out(relay);
        else
            relay_in(relay);
        if (relay->from >= 0 && relay->size == before && (polls[i].revents & POLLHUP))
            retry_at = now_ms() + RETRY_MS;
    }
}

int relay_timeout(void) {
    uint64_t now = now_ms();
    return retry_at > now ? (int)(retry_at - now) : -1;
}

bool program_drained(void) {
    return relays[1].from < 0 && relays[2].from < 0;
}

/* The last data, before the machine is switched off: a port returns from a blocking write when the host has it. */
void flush_program(void) {
    for (size_t i = 1; i < RELAYS; i++) {
        struct relay *relay = &relays[i];
        if (relay->from < 0)
            continue;
        set_blocking(relay->to, true);
        alarm(5);
        while (relay->from >= 0 && (relay->size || (relay_in(relay), relay->from >= 0 && relay->size))) {
            ssize_t written = write(relay->to, relay->data, relay->size);
            if (written <= 0)
                break;
            relay->size -= (size_t)written;
            memmove(relay->data, relay->data + written, relay->size);
        }
        alarm(0);
        close_relay(relay);
    }
}

_Noreturn void fail_init(int fd, const char *why) {
    if (why && write(fd, why, strlen(why)) < 0)
        perror("init");
    for (;;) /* the host sees why, and ends the machine */
        pause();
}
