/* The part of the stand-in for NVIDIA's driver that runs as root: who uses which card, and how much.
 *
 * Four times a second it looks for processes whose environment names a card in
 * CUDA_VISIBLE_DEVICES, by index or UUID, and writes /run/gpus/processes: `card pid bytes percent`
 * a line, where bytes is the resident size and percent of a core, both shared by a process's cards.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_PIDS 4096

struct seen { int pid; unsigned long long ticks; double at; };

static struct seen before[MAX_PIDS], now[MAX_PIDS];
static int before_count, now_count;

static double seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static long slurp(const char *path, char *into, long room) {
    long have = 0, got;
    int file = open(path, O_RDONLY);
    if (file < 0) return -1;
    while (have < room - 1 && (got = read(file, into + have, room - 1 - have)) > 0) have += got;
    close(file);
    into[have] = 0;
    return have;
}

/* The launchers of a worker carry its environment too, and use no card. */
static int launches_others(const char *name) {
    static const char *const names[] = {"sh", "bash", "dash", "env", "numactl", "(sd-", "systemd", "sudo"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (!strncmp(name, names[i], 4) || !strcmp(name, names[i])) return 1;
    return name[0] == '(';
}

static int cards_named(const char *value, int *cards) {
    static char conf[65536];
    char text[512], *word, *rest;
    int count = 0;
    snprintf(text, sizeof text, "%s", value);
    for (word = strtok_r(text, ", ", &rest); word && count < 16; word = strtok_r(NULL, ", ", &rest)) {
        if (isdigit((unsigned char)*word)) {
            cards[count++] = atoi(word);
        } else if (!strncmp(word, "GPU-", 4) && slurp("/etc/gpus.conf", conf, sizeof conf) > 0) {
            for (int card = 0; card < 16; card++) {
                char line[160];
                snprintf(line, sizeof line, "%d.uuid=%s", card, word);
                if (strstr(conf, line)) cards[count++] = card;
            }
        } else {
            break; /* -1 and names of nothing hide all that follow, as CUDA does */
        }
    }
    return count;
}

static double percent_of_core(int pid, unsigned long long ticks) {
    double at = seconds(), percent = 0;
    for (int i = 0; i < before_count; i++)
        if (before[i].pid == pid && at > before[i].at)
            percent = (ticks - before[i].ticks) * 100.0 / sysconf(_SC_CLK_TCK) / (at - before[i].at);
    if (now_count < MAX_PIDS) now[now_count++] = (struct seen){pid, ticks, at};
    return percent > 100 ? 100 : percent;
}

static void look_at(int pid, FILE *out) {
    static char environment[262144];
    char path[64], text[1024], name[64] = "", *after;
    unsigned long long user, system, pages;
    int cards[16], count = 0;
    long length;
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    length = slurp(path, environment, sizeof environment);
    for (long i = 0; i < length; i += (long)strlen(environment + i) + 1)
        if (!strncmp(environment + i, "CUDA_VISIBLE_DEVICES=", 21))
            count = cards_named(environment + i + 21, cards);
    if (!count) return;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (slurp(path, text, sizeof text) < 0 || !(after = strrchr(text, ')'))) return;
    sscanf(text, "%*d (%63[^)]", name);
    if (launches_others(name)) return;
    if (sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2) return;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    if (slurp(path, text, sizeof text) < 0 || sscanf(text, "%*u %llu", &pages) != 1) return;
    double percent = percent_of_core(pid, user + system);
    for (int i = 0; i < count; i++)
        fprintf(out, "%d %d %llu %.1f\n", cards[i], pid,
                pages * (unsigned long long)sysconf(_SC_PAGESIZE) / count, percent / count);
}

int main(void) {
    mkdir("/run/gpus", 0755);
    for (;;) {
        FILE *out = fopen("/run/gpus/.processes", "w");
        DIR *processes = opendir("/proc");
        struct dirent *entry;
        if (!out || !processes) return 1;
        now_count = 0;
        while ((entry = readdir(processes)))
            if (isdigit((unsigned char)*entry->d_name)) look_at(atoi(entry->d_name), out);
        closedir(processes);
        fclose(out);
        rename("/run/gpus/.processes", "/run/gpus/processes");
        memcpy(before, now, sizeof(struct seen) * now_count);
        before_count = now_count;
        usleep(250000);
    }
}
