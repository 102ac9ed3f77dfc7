/** Signing in at an identity provider: a button each, and what went wrong where one did not answer. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconAlertTriangle, IconLogin2 } from "@tabler/icons-react";
import { queryOptions, useQuery } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { api, unwrap } from "@/api/client";
import styles from "./login.module.css";

export const signInOptionsQuery = queryOptions({
  queryKey: ["sign-in-options"],
  queryFn: () => unwrap(api.GET("/api/v1/sign-on/options")),
  staleTime: 60_000,
});

export function ProviderButtons() {
  const options = useQuery(signInOptionsQuery).data;
  const { next, problem, provider } = useSearch({ from: "/login" });
  const label = options?.providers.find((each) => each.name === provider)?.label ?? provider ?? "";
  return (
    <>
      {problem ? (
        <p className={styles.problem} role="alert">
          <IconAlertTriangle size={16} aria-hidden />
          {problem === "not_found" ? t`There is no provider ${label} here any more.` : t`${label} does not answer, so that it cannot sign you in now. Try again; where it stays so, tell an owner.`}
        </p>
      ) : null}
      {options?.providers.map((each) => (
        <Button key={each.name} component="a" href={startUrl(each.name, next)} variant="default" leftSection={<IconLogin2 size={17} />}>
          <Trans>Sign in with {each.label}</Trans>
        </Button>
      ))}
      {options?.providers.length ? <div className={styles.or}>{options.passwords === "owners" ? t`owners` : t`or`}</div> : null}
    </>
  );
}

const startUrl = (provider: string, next: string | undefined): string => `/api/v1/sign-on/start?${new URLSearchParams({ provider, ...(next ? { next } : {}) }).toString()}`;
