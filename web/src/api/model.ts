/** The REST API's nouns by their short names. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Role = Schemas["Role"];
export type Permission = Schemas["Permission"];
export type Session = Schemas["Session"];
export type SecondStep = Schemas["SecondStep"];
export type Confirmation = Schemas["ConfirmationView"];
export type SignOnOption = Schemas["SignOnOption"];
export type Account = Schemas["AccountView"];
export type Passkey = Schemas["PasskeyView"];
export type PasskeyMade = Schemas["PasskeyMade"];
export type OwnSession = Schemas["SessionView"];
export type SignInMethod = Schemas["Method"];
export type Provider = Schemas["ProviderView"];
export type ProviderTested = Schemas["ProviderTested"];
export type Route = Schemas["RouteView"];
export type Target = Schemas["TargetView"];
export type Strategy = Schemas["Strategy"];
export type Capture = Schemas["CaptureView"];
export type RecordedBody = Schemas["BodyView"];
export type HeaderRules = Schemas["HeaderRulesView"];
export type Team = Schemas["TeamView"];
export type App = Schemas["AppView"];
export type Key = Schemas["KeyView"];
export type KeyMade = Schemas["KeyCreated"];
export type Cors = Schemas["CorsView"];
export type DialectName = Schemas["Dialect"];
export type WindowName = Schemas["Window"];
export type Metric = Schemas["Metric"];
export type Scope = Schemas["ScopeView"];
export type Limit = Schemas["LimitView"];
export type User = Schemas["UserView"];
export type UserMade = Schemas["UserCreated"];
export type Token = Schemas["TokenView"];
export type TokenMade = Schemas["TokenCreated"];

export type LedgerRow = Schemas["LedgerRowView"];
/** One attempt of a request, on one target. */
export type Attempt = Schemas["AttemptView"];
export type Outcome = Schemas["Outcome"];
export type UsageItem = Schemas["UsageItem"];

export type Flows = Schemas["Flows"];
export type FlowPath = Schemas["FlowPath"];
export type FlowPast = Schemas["FlowPast"];
export type FirstTokenItem = Schemas["FirstTokenItem"];
export type Need = Schemas["NeedView"];
export type LimitNear = Schemas["LimitNear"];
export type Gate = Schemas["Gate"];
export type FirstTokens = Schemas["FirstTokensCompared"];

export type Telemetry = Schemas["Telemetry"];
export type RouteTelemetry = Schemas["RouteTelemetry"];
export type Distribution = Schemas["Distribution"];
export type SeriesPoint = Schemas["SeriesPoint"];
export type SeriesList = Schemas["SeriesList"];

export type Discovery = Schemas["DiscoveryView"];
export type DiscoveryState = Schemas["State"];
export type Denial = Schemas["DenialView"];
export type SignOnPolicy = Schemas["SignOnView"];
export type SignOnProvider = Schemas["SignOnProviderView"];
export type SignOnProviderWanted = Schemas["SignOnProviderDocument"];
export type SignOnTrial = Schemas["SignOnTrial"];
export type AuditEntry = Schemas["AuditView"];
export type Alert = Schemas["AlertView"];
export type Coverage = Schemas["Coverage"];
export type ProcessCoverage = Schemas["ProcessCoverage"];
export type Decision = Schemas["DecisionDocument"];

export type Service = Schemas["CatalogueItem"];
export type ServiceModel = Schemas["ServiceModel"];
export type ServiceLimit = Schemas["ServiceLimit"];
export type ServiceText = Schemas["ServiceView"];
export type Access = Schemas["Access"];
export type CallExample = Schemas["CallExample"];
export type AccessRequest = Schemas["AccessRequestView"];
export type RequestState = Schemas["RequestState"];
export type Deed = Schemas["Deed"];
export type Told = Schemas["NoticeView"];
export type Delivery = Schemas["DeliveryView"];
export type Contact = Schemas["ContactView"];
