/** Signing in: by user and password; leads back to where one wanted to go. */
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRouter, useSearch } from "@tanstack/react-router";
import { useEffect, useState, type FormEvent } from "react";
import { sessionQuery, signIn } from "@/api/session";
import { Problem } from "@/ui/Answer";
import styles from "./login.module.css";

export function LoginPage() {
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const { next } = useSearch({ from: "/login" });
  const queries = useQueryClient();
  const router = useRouter();
  const entering = useMutation({
    mutationFn: () => signIn(username, password),
    onSuccess: async (session) => {
      queries.clear();
      queries.setQueryData(sessionQuery.queryKey, session);
      router.history.push(next ?? "/console/");
    },
  });
  useEffect(() => {
    document.title = "Sign in · Sluicegate";
  }, []);

  function enter(event: FormEvent): void {
    event.preventDefault();
    entering.mutate();
  }

  return (
    <main className={styles.login}>
      <form onSubmit={enter} className={styles.form}>
        <img src={`${import.meta.env.BASE_URL}mark.svg`} width={40} height={40} alt="" />
        <div>
          <h1>Sluicegate</h1>
          <p>Who calls which model, what it costs, and what is left of each limit.</p>
        </div>
        {entering.error ? <Problem error={entering.error} /> : null}
        <TextInput label="User" name="username" autoComplete="username" autoFocus required value={username} onChange={(event) => setUsername(event.currentTarget.value)} />
        <PasswordInput
          label="Password"
          name="password"
          autoComplete="current-password"
          required
          value={password}
          onChange={(event) => setPassword(event.currentTarget.value)}
          visibilityToggleButtonProps={{ "aria-label": "Show the password" }}
        />
        <Button type="submit" loading={entering.isPending}>
          Sign in
        </Button>
        <p className={styles.hint}>
          The owner's first password was printed by <code>install.sh</code>.
        </p>
      </form>
    </main>
  );
}
