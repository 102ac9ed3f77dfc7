import { t } from "@lingui/core/macro";

export const TABS = [
  { to: "/publish", label: t`Draft` },
  { to: "/publish/yaml", label: t`YAML` },
  { to: "/publish/versions", label: t`Versions` },
] as const;
